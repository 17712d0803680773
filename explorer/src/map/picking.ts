/** Which point lies under the pointer: all points as they lie on the screen, sorted into square cells. */
import { pixels, rotation, type Camera, type Window } from "./camera";

const CELL = 12; // pixels

export class Picking {
  /** (x, y) in pixels of every point. */
  readonly screen: Float32Array;
  private columns = 0;
  private rows = 0;
  private starts = new Uint32Array(1);
  private readonly members: Uint32Array;
  private readonly cells: Int32Array;

  constructor(private readonly places: Float32Array) {
    const count = places.length / 3;
    this.screen = new Float32Array(2 * count);
    this.members = new Uint32Array(count);
    this.cells = new Int32Array(count);
  }

  /** Where all points are now; hidden ones, and those outside, are under no pointer. */
  update(camera: Camera, window: Window, visible: (i: number) => boolean): void {
    const { places, screen, cells } = this;
    const count = cells.length;
    this.columns = Math.ceil(window.width / CELL);
    this.rows = Math.ceil(window.height / CELL);
    this.starts = new Uint32Array(this.columns * this.rows + 1);
    const unit = pixels(camera, window);
    const [[xx, xy, xz], [yx, yy, yz]] = rotation(camera);
    const [cx, cy, cz] = camera.centre;
    for (let i = 0; i < count; i++) {
      const [px, py, pz] = [places[3 * i] - cx, places[3 * i + 1] - cy, places[3 * i + 2] - cz];
      const x = window.width / 2 + unit * (xx * px + xy * py + xz * pz);
      const y = window.height / 2 - unit * (yx * px + yy * py + yz * pz);
      screen[2 * i] = x;
      screen[2 * i + 1] = y;
      const inside = x >= 0 && y >= 0 && x < window.width && y < window.height && visible(i);
      cells[i] = inside ? Math.floor(y / CELL) * this.columns + Math.floor(x / CELL) : -1;
      if (inside) this.starts[cells[i] + 1]++;
    }
    for (let k = 1; k < this.starts.length; k++) this.starts[k] += this.starts[k - 1];
    const next = this.starts.slice();
    for (let i = 0; i < count; i++) if (cells[i] >= 0) this.members[next[cells[i]]++] = i;
  }

  /** The point nearest to (x, y), at most `reach` pixels away; -1 if there is none. */
  nearest(x: number, y: number, reach: number): number {
    let found = -1;
    let least = reach * reach;
    const [left, right] = [
      Math.max(0, Math.floor((x - reach) / CELL)),
      Math.min(this.columns - 1, Math.floor((x + reach) / CELL)),
    ];
    const [top, bottom] = [
      Math.max(0, Math.floor((y - reach) / CELL)),
      Math.min(this.rows - 1, Math.floor((y + reach) / CELL)),
    ];
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const cell = row * this.columns + column;
        for (let k = this.starts[cell]; k < this.starts[cell + 1]; k++) {
          const i = this.members[k];
          const square = (this.screen[2 * i] - x) ** 2 + (this.screen[2 * i + 1] - y) ** 2;
          if (square <= least) [found, least] = [i, square];
        }
      }
    }
    return found;
  }

  /** All points inside a polygon of (x, y) in pixels (even-odd rule). */
  inside(polygon: readonly (readonly [number, number])[]): number[] {
    const found: number[] = [];
    for (let i = 0; i < this.cells.length; i++) {
      if (this.cells[i] >= 0 && contains(polygon, this.screen[2 * i], this.screen[2 * i + 1])) found.push(i);
    }
    return found;
  }
}

/** Whether (x, y) lies inside a polygon: a ray to the right crosses its border an odd number of times. */
export function contains(polygon: readonly (readonly [number, number])[], x: number, y: number): boolean {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ax, ay] = polygon[i];
    const [bx, by] = polygon[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}
