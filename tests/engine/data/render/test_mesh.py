"""Meshes: their checks, placing and joining."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.render.mesh import Material, Mesh, joined, placement, vertex_normals

RED, BLUE = Material(colour=(1.0, 0.0, 0.0)), Material(colour=(0.0, 0.0, 1.0), texture="wall")


def tetrahedron(material: Material) -> Mesh:
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    return Mesh(
        positions=positions,
        normals=vertex_normals(positions, faces),
        uv=np.zeros((4, 2), np.float32),
        faces=faces,
        face_materials=np.zeros(4, np.int32),
        materials=(material,),
    )


def test_normals_point_out_of_a_solid_wound_counter_clockwise() -> None:
    mesh = tetrahedron(RED)
    a, b, c = (mesh.positions[mesh.faces[:, k]] for k in range(3))
    outwards = (np.cross(b - a, c - a) * (mesh.positions[mesh.faces].mean(1) - mesh.positions.mean(0))).sum(1)
    sign = np.sign(outwards[0])
    away = mesh.positions - mesh.positions.mean(0)
    assert (np.sign((mesh.normals * away).sum(1)) == sign).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)


def test_a_turn_to_the_right_faces_the_persons_right() -> None:
    ahead = np.array([0.0, 0.0, -1.0, 0.0])
    np.testing.assert_allclose(placement(turn_rad=np.pi / 2) @ ahead, [-1, 0, 0, 0], atol=1e-12)


def test_placing_turns_normals_and_keeps_their_length() -> None:
    mesh = tetrahedron(RED)
    moved = mesh.placed(placement(x_m=2.0, z_m=-1.0, turn_rad=0.7, scale=3.0))
    np.testing.assert_allclose(np.linalg.norm(moved.normals, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(moved.normals, vertex_normals(moved.positions, moved.faces), atol=1e-5)
    assert np.linalg.norm(moved.positions[1] - moved.positions[0]) == pytest.approx(3.0, rel=1e-6)


def test_joining_keeps_every_faces_material_and_shares_equal_ones() -> None:
    mesh = joined([tetrahedron(RED), tetrahedron(BLUE), tetrahedron(RED)])
    assert mesh.materials == (RED, BLUE)
    assert mesh.face_materials.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert mesh.faces.max() == 11 and len(mesh.positions) == 12


def test_a_face_beyond_the_vertices_is_refused() -> None:
    mesh = tetrahedron(RED)
    with pytest.raises(ValueError, match="beyond"):
        Mesh(
            positions=mesh.positions[:3], normals=mesh.normals[:3], uv=mesh.uv[:3], faces=mesh.faces,
            face_materials=mesh.face_materials, materials=mesh.materials,
        )  # fmt: skip


def test_a_wrong_type_is_named() -> None:
    mesh = tetrahedron(RED)
    with pytest.raises(ValueError, match=r"positions: expected float32"):
        Mesh(
            positions=mesh.positions.astype(np.float64), normals=mesh.normals, uv=mesh.uv, faces=mesh.faces,  # type: ignore[arg-type]
            face_materials=mesh.face_materials, materials=mesh.materials,
        )  # fmt: skip
