"""Video for training and evaluation, on disk and synthetic.

Here: reading it (`layout`, `rig`, `decode`, `multicam`, `pairs`, …), which is all that training and
evaluation use, and which scenes are held out (`splits`). `render` draws a stage and knows no scenes;
`scenes` thinks them up, builds their stages from the pack of assets and writes their videos; `bake` makes
that pack anew. Imports go one way: bake → scenes → render, and scenes → here.
"""
