/**
 * Points drawn by the graphics processor, or by its stand-in: one draw call, three.js with a shader of our own.
 *
 * They are drawn in a random order that never changes, so that no class lies on top of all others.
 */
import {
  BufferAttribute,
  BufferGeometry,
  Camera as NoCamera,
  DataTexture,
  GLSL3,
  NoBlending,
  NormalBlending,
  Points as PointCloud,
  RawShaderMaterial,
  Scene,
  Vector3,
  WebGLRenderer,
} from "three";
import { palette, rgb, shapeOf, UNLABELLED } from "../colours";
import { Random } from "../random";
import { rotation, pixels, type Camera, type Window } from "./camera";
import type { Theme } from "../theme";
import { Told } from "../told";

export interface Look {
  theme: Theme;
  hidden: ReadonlySet<number>;
  dimensions: 2 | 3;
  size: number; // pixels
  ink: string;
  paper: string;
  reach: number; // how far points lie before and behind the middle
}

/** What draws points into its canvas. */
export interface PointLayer {
  readonly canvas: HTMLCanvasElement;
  setPlaces(places: Float32Array): void;
  setGroup(group: readonly number[]): void;
  draw(camera: Camera, window: Window, look: Look): void;
}

const SMALL = 3.4; // pixels, below which a point is a square without a rim

const VERTEX = `
precision highp float;
in vec3 position;
in float label;
in float form;
in float lit;
uniform vec3 centre, rowX, rowY, rowZ;
uniform float size, planar;
uniform sampler2D colours;
out vec3 colour;
out float shape;
out float shade;
void main() {
  vec4 found = texelFetch(colours, ivec2(int(label + 0.5), 0), 0);
  vec3 p = position - centre;
  float depth = dot(rowZ, p);
  gl_Position = found.a < 0.5 ? vec4(9.0, 9.0, 9.0, 1.0) : vec4(dot(rowX, p), dot(rowY, p), -0.9 * clamp(depth, -1.0, 1.0), 1.0);
  shade = lit < 0.5 ? 0.16 : 1.0;
  gl_PointSize = (size < ${SMALL.toFixed(1)} && form < 0.5 ? 0.85 : 1.0) * size * (planar > 0.5 ? 1.0 : 1.0 + 0.35 * clamp(depth, -1.0, 1.0));
  if (planar < 0.5) shade *= 0.62 + 0.38 * clamp(depth + 0.35, 0.0, 1.0);
  colour = found.rgb;
  shape = form;
}`;

const FRAGMENT = `
precision highp float;
in vec3 colour;
in float shape;
in float shade;
uniform vec3 ink, paper;
uniform float size, planar;
out vec4 drawn;
void main() {
  if (size < ${SMALL.toFixed(1)} && shape < 0.5) { // too small to be seen as round, and there are many
    // In space nothing is blended (see draw): what is far fades into the paper.
    drawn = planar > 0.5 ? 0.8 * shade * vec4(colour, 1.0) : vec4(mix(paper, colour, shade), 1.0);
    return;
  }
  vec2 p = 2.0 * gl_PointCoord - 1.0;
  float edge = length(p);
  if (shape > 2.5) edge = max(0.87 * abs(p.x) - 0.5 * p.y, p.y) / 0.5;
  else if (shape > 1.5) edge = abs(p.x) + abs(p.y);
  else if (shape > 0.5) edge = max(abs(p.x), abs(p.y)) / 0.8;
  if (edge > 1.0) discard;
  float soft = 2.0 / size;
  float rim = smoothstep(1.0 - 1.6 * soft, 1.0 - 0.6 * soft, edge);
  float alpha = shade * clamp((1.0 - edge) / soft + 0.35, 0.0, 1.0);
  drawn = vec4(mix(colour, ink, 0.42 * rim * clamp((size - 4.0) / 3.0, 0.0, 1.0)) * alpha, alpha);
}`;

export class GlPoints implements PointLayer {
  readonly canvas: HTMLCanvasElement;
  private readonly renderer: WebGLRenderer;
  private readonly scene = new Scene();
  private readonly camera = new NoCamera();
  private readonly material: RawShaderMaterial;
  private readonly order: Uint32Array;
  private readonly texture = new DataTexture(new Uint8Array(256 * 4), 256, 1);
  private cloud: PointCloud | null = null;
  private coloured = "";

  /** Throws Told if the browser has no WebGL. Arguments: labels: (N), -1 for none. */
  constructor(
    private readonly labels: Int16Array,
    onLost: () => void,
  ) {
    this.canvas = document.createElement("canvas");
    // Asked for here, since three.js complains on the console where there is none.
    const context = this.canvas.getContext("webgl2", { alpha: true, antialias: false, depth: true });
    if (context === null)
      throw new Told("WebGL is switched off in this browser: the map is drawn without it, which is slower.");
    this.renderer = new WebGLRenderer({ canvas: this.canvas, context, alpha: true, antialias: false });
    this.renderer.setClearColor(0, 0);
    this.canvas.addEventListener("webglcontextlost", onLost);
    this.order = new Random(1).order(labels.length);
    const uniforms = {
      centre: { value: new Vector3() },
      rowX: { value: new Vector3() },
      rowY: { value: new Vector3() },
      rowZ: { value: new Vector3() },
      size: { value: 4 },
      planar: { value: 1 },
      colours: { value: this.texture },
      ink: { value: new Vector3() },
      paper: { value: new Vector3() },
    };
    this.material = new RawShaderMaterial({
      glslVersion: GLSL3,
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
      uniforms,
      transparent: true,
      premultipliedAlpha: true,
      blending: NormalBlending,
      depthTest: false,
      depthWrite: false,
    });
  }

  setPlaces(places: Float32Array): void {
    const count = places.length / 3;
    // A layout may hold the first points only: their order is that of all, less the others.
    const order = count === this.order.length ? this.order : this.order.filter((i) => i < count);
    const positions = new Float32Array(3 * count);
    const labels = new Uint8Array(count);
    const forms = new Uint8Array(count);
    order.forEach((i, at) => {
      for (let k = 0; k < 3; k++) positions[3 * at + k] = places[3 * i + k];
      labels[at] = this.labels[i] < 0 ? UNLABELLED : this.labels[i] % UNLABELLED;
      forms[at] = shapeOf(this.labels[i]);
    });
    this.cloud?.geometry.dispose();
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(positions, 3));
    geometry.setAttribute("label", new BufferAttribute(labels, 1));
    geometry.setAttribute("form", new BufferAttribute(forms, 1));
    geometry.setAttribute("lit", new BufferAttribute(new Uint8Array(count).fill(1), 1));
    this.scene.clear();
    this.cloud = new PointCloud(geometry, this.material);
    this.cloud.frustumCulled = false;
    this.scene.add(this.cloud);
  }

  /** Points outside a group fade; an empty one is no group. */
  setGroup(group: readonly number[]): void {
    const lit = this.cloud?.geometry.getAttribute("lit");
    if (!(lit instanceof BufferAttribute)) return;
    const values = lit.array as Uint8Array;
    const chosen = new Set(group);
    const shown = values.length;
    let at = 0;
    for (const i of this.order) if (i < shown) values[at++] = group.length === 0 || chosen.has(i) ? 1 : 0;
    lit.needsUpdate = true;
  }

  draw(camera: Camera, window: Window, look: Look): void {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (this.renderer.getPixelRatio() !== ratio) this.renderer.setPixelRatio(ratio);
    const { width, height } = window;
    if (this.canvas.width !== Math.floor(width * ratio) || this.canvas.height !== Math.floor(height * ratio)) {
      this.renderer.setSize(width, height);
    }
    this.colour(look);
    const { uniforms } = this.material;
    const unit = pixels(camera, window);
    const rows = rotation(camera);
    uniforms.centre.value.set(...camera.centre);
    uniforms.rowX.value.set(...rows[0]).multiplyScalar((2 * unit) / width);
    uniforms.rowY.value.set(...rows[1]).multiplyScalar((2 * unit) / height);
    uniforms.rowZ.value.set(...rows[2]).multiplyScalar(1 / Math.max(look.reach, 1e-9));
    uniforms.size.value = look.size * ratio;
    uniforms.planar.value = look.dimensions === 2 ? 1 : 0;
    const solid = look.dimensions === 3;
    this.material.depthTest = solid;
    this.material.depthWrite = solid;
    this.material.blending = solid && look.size * ratio < SMALL ? NoBlending : NormalBlending;
    this.renderer.render(this.scene, this.camera);
  }

  private colour(look: Look): void {
    const key = `${look.theme} ${[...look.hidden].join(",")} ${look.ink}`;
    if (key === this.coloured) return;
    this.coloured = key;
    (this.texture.image.data as Uint8Array).set(palette(look.theme, look.hidden));
    this.texture.needsUpdate = true;
    this.material.uniforms.ink.value.set(...rgb(look.ink)).divideScalar(255);
    this.material.uniforms.paper.value.set(...rgb(look.paper)).divideScalar(255);
  }
}
