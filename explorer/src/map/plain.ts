/** Points drawn without WebGL, as squares on an ordinary canvas: slower, and all a map needs. */
import { hex } from "../colours";
import { Random } from "../random";
import { toScreen, type Camera, type Window } from "./camera";
import type { Look, PointLayer } from "./points";

export class PlainPoints implements PointLayer {
  readonly canvas = document.createElement("canvas");
  private places: Float32Array = new Float32Array();
  private group = new Set<number>();
  private readonly order: Uint32Array;

  constructor(private readonly labels: Int16Array) {
    this.order = new Random(1).order(labels.length);
  }

  setPlaces(places: Float32Array): void {
    this.places = places;
  }

  setGroup(group: readonly number[]): void {
    this.group = new Set(group);
  }

  draw(camera: Camera, window: Window, look: Look): void {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = window.width * ratio;
    this.canvas.height = window.height * ratio;
    this.canvas.style.width = `${window.width}px`;
    this.canvas.style.height = `${window.height}px`;
    const pen = this.canvas.getContext("2d");
    if (pen === null) return;
    pen.scale(ratio, ratio);
    const side = Math.max(2, 0.8 * look.size);
    const colours = new Map<number, string>();
    for (const i of this.order) {
      const label = this.labels[i];
      if (3 * i >= this.places.length || look.hidden.has(label)) continue;
      const [x, y] = toScreen(camera, window, this.places.subarray(3 * i, 3 * i + 3) as unknown as number[]);
      if (x < -side || y < -side || x > window.width + side || y > window.height + side) continue;
      let colour = colours.get(label);
      if (colour === undefined) colours.set(label, (colour = hex(label, look.theme)));
      pen.fillStyle = colour;
      pen.globalAlpha = this.group.size === 0 || this.group.has(i) ? 0.9 : 0.15;
      pen.fillRect(x - side / 2, y - side / 2, side, side);
    }
  }
}
