/** The image of the point under the pointer, beside it. */
import type { Dataset } from "../dataset";
import { h } from "../dom";
import { draw } from "../pictures";
import { sentence } from "../told";
import type { Window } from "./camera";

export class Tip {
  readonly element = h("div", { class: "tip", hidden: true });
  /** The point shown, or -1. */
  point = -1;

  constructor(private readonly data: Dataset) {}

  /** Show the image of a point that lies at (x, y); -1 for none. */
  async show(i: number, [x, y]: readonly number[], window: Window): Promise<void> {
    this.point = i;
    if (i < 0) {
      this.element.hidden = true;
      return;
    }
    const { shape } = this.data.manifest;
    const canvas = h("canvas", { class: "picture", width: shape[2], height: shape[1] });
    const label = this.data.label(i);
    let words = [h("span", {}, label === "" ? `image ${i}` : label), h("small", {}, label === "" ? "" : `image ${i}`)];
    try {
      draw(canvas, await this.data.sprites.image(i), shape);
    } catch (error) {
      words = [h("span", {}, sentence(error))];
    }
    if (this.point !== i) return;
    this.element.replaceChildren(canvas, ...words);
    this.element.hidden = false;
    const right = x > window.width - 130;
    this.element.style.left = `${Math.min(window.width - 8, Math.max(8, x + (right ? -14 : 14)))}px`;
    this.element.style.top = `${Math.min(window.height - 130, Math.max(6, y - 50))}px`;
    this.element.classList.toggle("left", right);
  }
}
