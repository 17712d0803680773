/**
 * The plane of the map as pictures: what the decoder makes of the middle of every square of the screen.
 *
 * Squares keep their size on the screen, so that coming closer shows finer steps; while the map moves the last pictures
 * move with it, and new ones are decoded a row at a time.
 */
import type { Dataset } from "../dataset";
import type { Networks } from "../networks";
import { toBytes } from "../pictures";
import { codeAt, type Sight } from "../sight";
import { pixels, toPlace, toScreen, type Camera, type Window } from "./camera";

export class PictureGrid {
  private readonly canvas = document.createElement("canvas");
  private camera: Camera | null = null;
  private turn = 0;
  private wanted = "";

  constructor(
    private readonly data: Dataset,
    private readonly networks: Networks,
    private readonly onRow: () => void,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Draw what there is, moved to where it belongs now, and begin what is missing. */
  draw(pen: CanvasRenderingContext2D, sight: Sight, hand: Float32Array, camera: Camera, window: Window): void {
    // Moved within the map's plane, the hand changes no picture: what counts is where the plane lies.
    const plane = Array.from(codeAt(sight, this.data, [0, 0, 0], hand), (value) => value.toFixed(4));
    const key = JSON.stringify([sight, camera, window.width, window.height, plane]);
    if (key !== this.wanted) {
      this.wanted = key;
      const turn = ++this.turn;
      setTimeout(() => {
        if (turn === this.turn) this.fill(turn, sight, hand, camera, window).catch(this.onError);
      }, 60);
    }
    if (this.camera === null) return;
    const from = toScreen(camera, window, toPlace(this.camera, window, 0, 0, this.camera.centre));
    const ratio = pixels(camera, window) / pixels(this.camera, window);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.canvas, from[0], from[1], this.canvas.width * ratio, this.canvas.height * ratio);
  }

  private async fill(turn: number, sight: Sight, hand: Float32Array, camera: Camera, window: Window): Promise<void> {
    const { shape } = this.data.manifest;
    const [, height, width] = shape;
    const times = Math.max(1, Math.round(44 / Math.max(height, width)));
    const [across, down] = [width * times, height * times];
    const columns = Math.ceil(window.width / across);
    const rows = Math.ceil(window.height / down);
    const begin = [Math.round((window.width - columns * across) / 2), Math.round((window.height - rows * down) / 2)];
    const fresh = document.createElement("canvas");
    [fresh.width, fresh.height] = [window.width, window.height];
    const pen = fresh.getContext("2d");
    if (pen === null) return;
    pen.imageSmoothingEnabled = false;
    const tile = document.createElement("canvas");
    [tile.width, tile.height] = [width, height];
    const tilePen = tile.getContext("2d");
    const size = shape[0] * height * width;
    for (let row = 0; row < rows; row++) {
      const codes = new Float32Array(columns * this.data.dim);
      const top = begin[1] + row * down;
      for (let column = 0; column < columns; column++) {
        const place = toPlace(camera, window, begin[0] + (column + 0.5) * across, top + down / 2, camera.centre);
        codes.set(codeAt(sight, this.data, place, hand), column * this.data.dim);
      }
      const images = await this.networks.decode(codes, columns);
      if (turn !== this.turn) return;
      for (let column = 0; column < columns; column++) {
        tilePen?.putImageData(new ImageData(toBytes(images, shape, column * size), width, height), 0, 0);
        pen.drawImage(tile, begin[0] + column * across, top, across, down);
      }
      if (row === 0 && this.camera !== null) {
        // The old pictures stay beneath until new ones cover them.
        const from = toScreen(camera, window, toPlace(this.camera, window, 0, 0, this.camera.centre));
        const ratio = pixels(camera, window) / pixels(this.camera, window);
        pen.globalCompositeOperation = "destination-over";
        pen.drawImage(this.canvas, from[0], from[1], this.canvas.width * ratio, this.canvas.height * ratio);
        pen.globalCompositeOperation = "source-over";
      }
      if (row % 4 === 3 || row === rows - 1) {
        [this.canvas.width, this.canvas.height] = [fresh.width, fresh.height];
        this.canvas.getContext("2d")?.drawImage(fresh, 0, 0);
        this.camera = camera;
        this.onRow();
        await new Promise((done) => setTimeout(done));
      }
    }
  }
}
