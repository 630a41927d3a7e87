"""The renderer's GLSL: shadow maps, surfaces, contact shade, light, and the picture. Knows nothing of
scenes.

Deferred: triangles only write what is there (colour, normal, depth), light is worked out once per sample
that is seen. World axes are OpenCV's (y down). Row 0 of every buffer is the top of the picture.
"""

from __future__ import annotations

NEAR_M, FAR_M = 0.05, 60.0
SHADOW_LIGHTS = 2  # have a shadow map each
BRIGHTEST = 16.0  # radiance that a thing can shine with
SAMPLES = 2  # along each side of a pixel
WASHES = 4  # plain cones of light without shadows: coloured light on the walls of a stage

SURFACE_VERTEX = """
#version 430
uniform mat4 clip_from_world;
uniform mat4 world_from_body;
uniform sampler2D materials;
uniform float time_s;
in vec3 position;
in vec3 normal;
in vec2 uv;
in float material;
out vec3 world_normal;
out vec2 texture_uv;
flat out vec4 tint;
flat out vec4 finish;
void main() {
    vec4 world = world_from_body * vec4(position, 1.0);
    world_normal = mat3(world_from_body) * normal;
    int row = int(material);
    tint = texelFetch(materials, ivec2(0, row), 0);
    finish = texelFetch(materials, ivec2(1, row), 0);
    vec4 mapping = texelFetch(materials, ivec2(2, row), 0);
    texture_uv = uv * mapping.xy + mapping.zw * time_s;
    gl_Position = clip_from_world * world;
}
"""

# finish: roughness, metallic, emission, person. tint.a: layer of the texture, or -1. Bytes: the colour's
# root and the person's share; the normal, and 0–0.45 roughness, 0.5–0.95 of a metal, 1: it shines.
SURFACE_FRAGMENT = f"""
#version 430
const float BRIGHTEST = {BRIGHTEST};
uniform sampler2DArray textures;
in vec3 world_normal;
in vec2 texture_uv;
flat in vec4 tint;
flat in vec4 finish;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec4 shape;
void main() {{
    vec3 albedo = tint.rgb;
    if (tint.a >= 0.0) {{
        vec3 texel = texture(textures, vec3(texture_uv, tint.a)).rgb;
        albedo *= texel * texel;
    }}
    bool shines = finish.z > 0.0;
    colour = vec4(sqrt(shines ? albedo * finish.z / BRIGHTEST : albedo), finish.w);
    shape = vec4(normalize(world_normal) * 0.5 + 0.5, shines ? 1.0 : 0.45 * finish.x + 0.5 * finish.y);
}}
"""

SHADOW_VERTEX = """
#version 430
uniform mat4 clip_from_world;
uniform mat4 world_from_body;
in vec3 position;
void main() { gl_Position = clip_from_world * (world_from_body * vec4(position, 1.0)); }
"""

SHADOW_FRAGMENT = """
#version 430
void main() {}
"""

SCREEN_VERTEX = """
#version 430
uniform mat4 world_from_camera;
uniform vec4 ray;  // (1/fx, 1/fy, -cx/fx, -cy/fy), for coordinates in 0..1
out vec2 at;
out vec3 direction;
void main() {
    at = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
    vec3 seen = vec3(at * ray.xy + ray.zw, 1.0);
    direction = mat3(world_from_camera) * seen;
    gl_Position = vec4(at * 2.0 - 1.0, 0.0, 1.0);
}
"""

# Contact shade: how much of the hemisphere nearby geometry hides (after Mittring, Finding Next Gen, 2007,
# sect. 8.5.4.3)
CONTACT_FRAGMENT = """
#version 430
uniform sampler2D depths;
uniform sampler2D shapes;
uniform mat4 world_from_camera;
uniform vec4 ray;
uniform vec4 lens;    // fx, fy, cx, cy, for coordinates in 0..1
uniform vec2 inverse_z; // inverse depth = x · depth buffer + y
uniform float radius_m;
uniform vec3 spread[8];
in vec2 at;
out float open;
void main() {
    float z = 1.0 / (inverse_z.x * texture(depths, at).r + inverse_z.y);
    mat3 turn = mat3(world_from_camera);
    vec3 here = vec3(at * ray.xy + ray.zw, 1.0) * z;
    vec3 normal = (texture(shapes, at).xyz * 2.0 - 1.0) * turn;
    if (dot(normal, here) > 0.0) normal = -normal;
    ivec2 cell = ivec2(gl_FragCoord.xy) & 3;
    float angle = float((cell.x * 5 + cell.y * 11) & 15) * 0.3926991;
    mat2 spin = mat2(cos(angle), sin(angle), -sin(angle), cos(angle));
    float hidden = 0.0;
    for (int i = 0; i < 8; i++) {
        vec3 offset = spread[i];
        offset.xy = spin * offset.xy;
        if (dot(offset, normal) < 0.0) offset = -offset;
        vec3 there = here + (offset + normal * 0.15) * radius_m;
        vec2 seen = there.xy / there.z * lens.xy + lens.zw;
        float gap = there.z - 1.0 / (inverse_z.x * texture(depths, seen).r + inverse_z.y);
        hidden += gap > 0.01 ? smoothstep(2.5 * radius_m, 0.5 * radius_m, gap) : 0.0;
    }
    open = 1.0 - hidden / 8.0;
}
"""

SMOOTH_FRAGMENT = """
#version 430
uniform sampler2D contact;
in vec2 at;
out float open;
void main() {
    vec2 step = 1.0 / vec2(textureSize(contact, 0));
    open = 0.0;
    for (int i = 0; i < 4; i++)
        open += 0.25 * texture(contact, at + step * vec2((i & 1) * 2 - 1, (i & 2) - 1)).r;
}
"""

LIGHT_FRAGMENT = f"""
#version 430
const int LIGHTS = {SHADOW_LIGHTS};
const int WASHES = {WASHES};
const int SAMPLES = {SAMPLES};
const float BRIGHTEST = {BRIGHTEST};
const float NOTHING = {1.001 / FAR_M};  // inverse depth beyond which nothing was drawn
uniform sampler2D colours;
uniform sampler2D shapes;
uniform sampler2D depths;
uniform sampler2D contact;
uniform sampler2DShadow shadows;  // the lights' maps side by side
uniform int tap_count;            // not a constant, so that no compiler writes the loop out: see `main`
uniform vec2 taps[6];
uniform sampler3D ambient;      // six slabs along z: irradiance on +x -x +y -y +z -z
uniform sampler2DArray walls;   // radiance of the room's six walls, for reflections
uniform sampler2D surroundings; // what is behind the windows, on an unfolded octahedron
uniform vec3 room_low;
uniform vec3 room_high;
uniform float ambient_depth;    // cells along z of one slab
uniform vec3 eye;
uniform vec2 inverse_z;         // inverse depth = x · depth buffer + y
uniform int light_count;
uniform vec4 light_place[LIGHTS];   // xyz place, or the direction towards a sun with w = 0
uniform vec4 light_axis[LIGHTS];    // direction of the beam; w: cosine of its outer half angle
uniform vec4 light_colour[LIGHTS];  // w: cosine of the inner half angle
uniform float light_softness[LIGHTS];
uniform mat4 light_clip[LIGHTS];
uniform int wash_count;
uniform vec3 wash_place[WASHES];
uniform vec4 wash_axis[WASHES];
uniform vec4 wash_colour[WASHES];
uniform vec3 exposure;
uniform vec4 haze;              // colour, and share per metre
in vec2 at;
in vec3 direction;
layout(location = 0) out vec4 picture;  // sRGB, and the matte
layout(location = 1) out float inverse_depth;

vec3 irradiance(vec3 cell, vec3 normal) {{
    vec3 share = normal * normal;
    vec3 side = vec3(normal.x < 0.0 ? 1.0 : 0.0, normal.y < 0.0 ? 3.0 : 2.0, normal.z < 0.0 ? 5.0 : 4.0);
    float z = clamp(cell.z * ambient_depth, 0.5, ambient_depth - 0.5);
    vec3 slab = (side * ambient_depth + z) / (6.0 * ambient_depth);
    return share.x * texture(ambient, vec3(cell.xy, slab.x)).rgb
         + share.y * texture(ambient, vec3(cell.xy, slab.y)).rgb
         + share.z * texture(ambient, vec3(cell.xy, slab.z)).rgb;
}}

vec3 reflection(vec3 place, vec3 way, float roughness) {{
    vec3 reach = (mix(room_low, room_high, step(0.0, way)) - place) / (abs(way) + 1e-5) * sign(way + 1e-6);
    float nearest = min(reach.x, min(reach.y, reach.z));
    vec3 hit = clamp((place + way * nearest - room_low) / (room_high - room_low), 0.0, 1.0);
    vec3 on;
    if (nearest == reach.x) on = vec3(hit.yz, way.x < 0.0 ? 1.0 : 0.0);
    else if (nearest == reach.y) on = vec3(hit.xz, way.y < 0.0 ? 3.0 : 2.0);
    else on = vec3(hit.xy, way.z < 0.0 ? 5.0 : 4.0);
    return textureLod(walls, on, roughness * 4.0).rgb;
}}

float lit(int map, vec3 where, float radius) {{
    where.x = (clamp(where.x, 0.0, 1.0) + float(map)) / float(LIGHTS);
    vec2 size = vec2(radius / float(LIGHTS), radius);
    float sum = 0.0;
    for (int i = 0; i < tap_count; i++) sum += texture(shadows, where + vec3(taps[i] * size, 0.0));
    return sum / float(tap_count);
}}

float cone(float cosine, float outer, float inner) {{
    float x = clamp((cosine - outer) / (inner - outer), 0.0, 1.0);
    return x * x * (3.0 - 2.0 * x);
}}

vec3 filmic(vec3 x) {{  // Narkowicz, ACES Filmic Tone Mapping Curve, 2016
    return clamp(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0.0, 1.0);
}}

vec3 sky(vec3 view) {{  // Engelhardt and Dachsbacher, Octahedron Environment Maps, 2008
    vec3 on = view / (abs(view.x) + abs(view.y) + abs(view.z));
    vec2 folded = (1.0 - abs(on.zx)) * vec2(on.x < 0.0 ? -1.0 : 1.0, on.z < 0.0 ? -1.0 : 1.0);
    return textureLod(surroundings, 0.5 + 0.5 * (on.y > 0.0 ? folded : on.xz), 0.0).rgb;
}}

vec3 beam(int i, vec3 place, vec3 normal, vec3 view, vec3 diffuse, vec3 f0, float roughness, float person) {{
    vec3 towards = light_place[i].xyz - place * light_place[i].w;
    float far2 = dot(towards, towards);
    towards *= inversesqrt(far2);
    float cosine = dot(normal, towards);
    float wrap = 0.22 * person;
    float diffused = max((cosine + wrap) / (1.0 + wrap), 0.0);
    float fall = cone(-dot(towards, light_axis[i].xyz), light_axis[i].w, light_colour[i].w) / far2;
    vec4 shade = light_clip[i] * vec4(place + normal * 0.025, 1.0);
    vec3 where = shade.xyz / shade.w * 0.5 + 0.5 - vec3(0.0, 0.0, 0.0004);
    float reached = light_place[i].w > 0.0 ? fall : 1.0;
    float seen = lit(i, where, light_softness[i]);
    vec3 light = light_colour[i].rgb * (reached * seen);
    vec3 middle = normalize(towards - view);
    float nh = max(dot(normal, middle), 0.0), vh = max(dot(-view, middle), 0.0);
    float a2 = roughness * roughness;
    a2 *= a2;
    float d = nh * nh * (a2 - 1.0) + 1.0;
    float lobe = a2 / (d * d) / max(4.0 * vh * vh * (roughness + 0.5), 0.05);  // GGX, Karis' short visibility
    float rim = 1.0 - vh;
    vec3 f = f0 + (1.0 - f0) * (rim * rim * rim * rim * rim);
    vec3 bleed = mix(vec3(1.0), vec3(1.15, 0.95, 0.9), person * clamp(1.0 - cosine * 2.0, 0.0, 1.0));
    return light * (diffuse * diffused * bleed + f * lobe * max(cosine, 0.0)) * 0.3183099;
}}

vec3 shaded(vec4 surface, vec4 shape, float z, float open, vec3 view) {{
    vec3 albedo = surface.rgb * surface.rgb;
    if (shape.w > 0.97) return albedo * BRIGHTEST;
    vec3 place = eye + direction * z;
    vec3 normal = normalize(shape.xyz * 2.0 - 1.0);
    float facing = -dot(normal, view);
    if (facing < 0.0) {{ normal = -normal; facing = -facing; }}
    facing = max(facing, 0.05);
    float metallic = shape.w > 0.475 ? 1.0 : 0.0;
    float roughness = clamp((shape.w - 0.5 * metallic) / 0.45, 0.08, 1.0);
    vec3 f0 = mix(vec3(0.04), albedo, metallic);
    vec3 diffuse = albedo * (1.0 - metallic);
    vec3 cell = (place + normal * 0.1 - room_low) / (room_high - room_low);
    vec3 radiance = diffuse * irradiance(cell, normal) * (open * 0.3183099);
    vec4 r = roughness * vec4(-1.0, -0.0275, -0.572, 0.022) + vec4(1.0, 0.0425, 1.04, -0.04);
    vec2 gain = vec2(-1.04, 1.04) * (min(r.x * r.x, exp2(-9.28 * facing)) * r.x + r.y) + r.zw;  // Karis, 2014
    radiance += reflection(place, reflect(view, normal), roughness) * open * (f0 * gain.x + gain.y);
    for (int i = 0; i < light_count; i++)
        radiance += beam(i, place, normal, view, diffuse, f0, roughness, surface.a);
    for (int i = 0; i < wash_count; i++) {{
        vec3 towards = wash_place[i] - place;
        float far2 = dot(towards, towards);
        towards *= inversesqrt(far2);
        float reached = cone(-dot(towards, wash_axis[i].xyz), wash_axis[i].w, wash_colour[i].w);
        float strength = reached * max(dot(normal, towards), 0.0) / far2 * open;
        radiance += diffuse * wash_colour[i].rgb * strength * 0.3183099;
    }}
    return radiance;
}}

vec3 seen(vec4 surface, vec4 shape, float inverse, float open, vec3 view) {{
    vec3 radiance;
    float z = 1.0 / inverse;
    if (inverse > NOTHING) radiance = mix(haze.rgb, shaded(surface, shape, z, open, view), exp2(-haze.a * z));
    else radiance = sky(view);
    return pow(filmic(radiance * exposure), vec3(1.0 / 2.2));
}}

// A pixel whose samples are one even surface is lit once, as their mean; one at an edge twice: the mean of
// the samples that are near and the mean of those behind (or of the person, and of what is not). Depth is
// the mean of the inverse depths of the near ones, as inverse depth is linear across a plane in the picture:
// so it belongs to the pixel's centre. The shading is called at one place only: llvmpipe writes every call
// out, and slows down when the code does not fit the processor's cache.
void main() {{
    ivec2 first = ivec2(gl_FragCoord.xy) * SAMPLES;
    vec3 view = normalize(direction);
    float open = texture(contact, at).r;
    float nearest = -1.0;
    vec4 front = vec4(0.0);
    float person = 0.0;
    for (int i = 0; i < SAMPLES * SAMPLES; i++) {{
        ivec2 sample_at = first + ivec2(i % SAMPLES, i / SAMPLES);
        float d = inverse_z.x * texelFetch(depths, sample_at, 0).r + inverse_z.y;
        if (d > nearest) {{
            nearest = d;
            person = texelFetch(colours, sample_at, 0).a;
            front = texelFetch(shapes, sample_at, 0);
        }}
    }}
    vec4 surface[2] = vec4[2](vec4(0.0), vec4(0.0)), shape[2] = vec4[2](vec4(0.0), vec4(0.0));
    vec2 inverse = vec2(0.0), count = vec2(0.0);
    for (int i = 0; i < SAMPLES * SAMPLES; i++) {{
        ivec2 sample_at = first + ivec2(i % SAMPLES, i / SAMPLES);
        float d = inverse_z.x * texelFetch(depths, sample_at, 0).r + inverse_z.y;
        vec4 colour = texelFetch(colours, sample_at, 0);
        vec4 form = texelFetch(shapes, sample_at, 0);
        vec4 other = form - front;
        bool near = d > 0.94 * nearest && abs(colour.a - person) < 0.5 && dot(other, other) < 0.06;
        vec2 share = near ? vec2(1.0, 0.0) : vec2(0.0, 1.0);
        surface[0] += share.x * colour; surface[1] += share.y * colour;
        shape[0] += share.x * form; shape[1] += share.y * form;
        inverse += share * d;
        count += share;
    }}
    vec3 sum = vec3(0.0);
    inverse /= max(count, 1.0);
    for (int i = 0; i < (count.y > 0.5 ? 2 : 1); i++) {{
        vec4 colour = (i == 0 ? surface[0] : surface[1]) / (i == 0 ? count.x : count.y);
        vec4 form = (i == 0 ? shape[0] : shape[1]) / (i == 0 ? count.x : count.y);
        sum += seen(colour, form, i == 0 ? inverse.x : inverse.y, open, view) * (i == 0 ? count.x : count.y);
    }}
    picture = vec4(sum, surface[0].a + surface[1].a) / float(SAMPLES * SAMPLES);
    inverse_depth = inverse.x > NOTHING ? inverse.x : 0.0;
}}
"""
