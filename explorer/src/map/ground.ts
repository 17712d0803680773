/** What lies beneath the points: bands of density, decoded pictures, and the scales of the two axes. */
import type { Dataset } from "../dataset";
import { names } from "../sight";
import type { Sight } from "../sight";
import { token } from "../theme";
import { pixels, toScreen, type Camera, type Window } from "./camera";
import { BANDS, type Shading } from "./shading";

/** An image of the bands in the accent's colour, one pixel a cell. */
export function bandImage(shading: Shading): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = shading.cells;
  const pen = canvas.getContext("2d");
  if (pen === null) return canvas;
  pen.fillStyle = token("accent");
  pen.fillRect(0, 0, shading.cells, shading.cells);
  const image = pen.getImageData(0, 0, shading.cells, shading.cells);
  const strength = Number(token("band")) || 0.06;
  for (let i = 0; i < shading.bands.length; i++) image.data[4 * i + 3] = 255 * Math.min(1, strength * shading.bands[i]);
  pen.putImageData(image, 0, 0);
  return canvas;
}

export function drawBands(
  pen: CanvasRenderingContext2D,
  image: HTMLCanvasElement,
  shading: Shading,
  camera: Camera,
  window: Window,
): void {
  const [left, top] = toScreen(camera, window, [shading.left, shading.top, camera.centre[2]]);
  const unit = pixels(camera, window);
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "low"; // there are about as many pixels as on the screen
  pen.drawImage(image, left, top, shading.width * unit, shading.height * unit);
}

/** In words, for the legend of the bands. */
export const BAND_WORDS = `Bands hold ${BANDS.map((share) => `${Math.round(100 * share)} %`).join(", ")} of the points shown.`;

/** Numbers along the lower and the left border of a flat map. */
export function drawScales(
  pen: CanvasRenderingContext2D,
  sight: Sight,
  data: Dataset,
  camera: Camera,
  window: Window,
): void {
  if (sight.kind === "layout" || sight.dimensions === 3) return;
  const unit = pixels(camera, window);
  const step = niceStep(90 / unit);
  pen.font = `11px ${token("font")}`;
  pen.lineWidth = 1;
  const [soft, rule] = [token("soft"), token("rule")];
  const [halfWidth, halfHeight] = [window.width / 2 / unit, window.height / 2 / unit];
  const ticks = (low: number, high: number) => {
    const found: number[] = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
    return found;
  };
  const [cx, cy] = camera.centre;
  pen.strokeStyle = rule;
  pen.fillStyle = soft;
  pen.textAlign = "center";
  pen.textBaseline = "bottom";
  for (const value of ticks(cx - halfWidth, cx + halfWidth)) {
    const [x] = toScreen(camera, window, [value, cy, 0]);
    line(pen, x, window.height - 5, x, window.height);
    if (x > 40 && x < window.width - 40) pen.fillText(number(value, step), x, window.height - 7);
  }
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  const [across, up] = names(sight, data).map((name) => (window.width < 560 ? name.replace(/ \(.*/, "") : name));
  if (up !== undefined) {
    for (const value of ticks(cy - halfHeight, cy + halfHeight)) {
      const [, y] = toScreen(camera, window, [cx, value, 0]);
      line(pen, 0, y, 5, y);
      if (y > 34 && y < window.height - 30) pen.fillText(number(value, step), 8, y);
    }
  }
  pen.textAlign = "right";
  pen.textBaseline = "bottom";
  pen.fillText(`${across} →`, window.width - 10, window.height - 22);
  if (up !== undefined) {
    pen.textAlign = "left";
    pen.textBaseline = "top";
    pen.fillText(`↑ ${up}`, 10, 10);
  }
}

/** The three directions of a map in space. */
export function drawTripod(
  pen: CanvasRenderingContext2D,
  sight: Sight,
  data: Dataset,
  rows: readonly (readonly number[])[],
  window: Window,
): void {
  const [x, y, long] = [70, window.height - 62, 40];
  pen.font = `11px ${token("font")}`;
  pen.lineWidth = 1.5;
  pen.textBaseline = "middle";
  names(sight, data).forEach((name, k) => {
    const [dx, dy] = [long * rows[0][k], -long * rows[1][k]];
    pen.strokeStyle = token("soft");
    line(pen, x, y, x + dx, y + dy);
    pen.fillStyle = token("soft");
    pen.textAlign = Math.abs(dx) < 8 ? "center" : dx > 0 ? "left" : "right";
    const label = name.replace(/ \(.*/, "").replace("principal axis", "axis").replace("code axis", "axis");
    pen.fillText(label, x + dx * 1.15, y + dy * 1.15 + (Math.abs(dx) < 8 ? (dy > 0 ? 8 : -8) : 0));
  });
}

function line(pen: CanvasRenderingContext2D, ax: number, ay: number, bx: number, by: number): void {
  pen.beginPath();
  pen.moveTo(ax, ay);
  pen.lineTo(bx, by);
  pen.stroke();
}

/** The least of 1, 2 and 5 times a power of ten that is at least `least`. */
export function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((k) => k * power).find((step) => step >= least * 0.9999) ?? 10 * power;
}

function number(value: number, step: number): string {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return (Math.abs(value) < step / 2 ? 0 : value).toFixed(digits).replace("-", "−");
}
