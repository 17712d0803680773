/** A board to draw on: as many pixels as the network's images, a round soft brush of white on what is there. */
import type { Shape } from "../degrade";
import { h } from "../dom";
import { draw } from "../pictures";

export class Board {
  readonly canvas: HTMLCanvasElement;
  private cursor: [number, number];
  private down = false;
  private last: [number, number] | null = null;
  private keyboard = false;

  constructor(
    private readonly shape: Shape,
    private pixels: Float32Array,
    private readonly onStroke: (pixels: Float32Array) => void,
  ) {
    const [, height, width] = shape;
    this.cursor = [width / 2, height / 2];
    this.canvas = h("canvas", {
      class: "picture large board",
      width,
      height,
      tabindex: "0",
      role: "application",
      "aria-label":
        "Drawing board. Draw with the pointer; or arrow keys move the brush and space puts it down or lifts it.",
    });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.focus({ preventScroll: true });
      this.last = this.at(event);
      this.keyboard = false;
      this.stroke(this.last, this.last);
      event.preventDefault();
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.last === null) return;
      const here = this.at(event);
      this.stroke(this.last, here);
      this.last = here;
    });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => (this.last = null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("blur", () => {
      this.keyboard = false;
      this.show();
    });
    this.show();
  }

  set(pixels: Float32Array): void {
    this.pixels = pixels.slice();
    this.show();
  }

  private at(event: PointerEvent): [number, number] {
    const box = this.canvas.getBoundingClientRect();
    const [, height, width] = this.shape;
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  }

  private stroke(from: readonly [number, number], to: readonly [number, number]): void {
    const [channels, height, width] = this.shape;
    const radius = Math.max(0.7, Math.min(height, width) / 24);
    const fresh = this.pixels.slice();
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const apart = toLine(x + 0.5, y + 0.5, from, to);
        const ink = Math.min(1, Math.max(0, 1 + (radius - apart) / Math.max(0.8, radius * 0.7)));
        if (ink === 0) continue;
        for (let c = 0; c < channels; c++) {
          const i = (c * height + y) * width + x;
          fresh[i] = Math.max(fresh[i], ink);
        }
      }
    }
    this.pixels = fresh;
    this.show();
    this.onStroke(fresh);
  }

  private key(event: KeyboardEvent): void {
    const moves: Record<string, readonly [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const move = moves[event.key];
    if (move === undefined && event.key !== " ") return;
    event.preventDefault();
    this.keyboard = true;
    const [, height, width] = this.shape;
    const before = this.cursor;
    if (move === undefined) this.down = !this.down;
    else {
      const step = Math.max(1, Math.round(Math.min(height, width) / 32));
      this.cursor = [
        Math.min(width - 0.5, Math.max(0.5, before[0] + step * move[0])),
        Math.min(height - 0.5, Math.max(0.5, before[1] + step * move[1])),
      ];
    }
    if (this.down) this.stroke(before, this.cursor);
    else this.show();
  }

  private show(): void {
    draw(this.canvas, this.pixels, this.shape);
    if (!this.keyboard) return;
    const pen = this.canvas.getContext("2d");
    if (pen === null) return;
    pen.fillStyle = this.down ? "#ff9d3c" : "#5aa5e8";
    pen.fillRect(Math.floor(this.cursor[0]), Math.floor(this.cursor[1]), 1, 1);
  }
}

/** Distance from (x, y) to the line between two places. */
function toLine(
  x: number,
  y: number,
  [ax, ay]: readonly [number, number],
  [bx, by]: readonly [number, number],
): number {
  const square = (bx - ax) ** 2 + (by - ay) ** 2;
  const t = square === 0 ? 0 : Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / square));
  return Math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay));
}
