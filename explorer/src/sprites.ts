/** The exported images, cut from their sheets: image i is at cell i mod per_sheet of sheet i div per_sheet. */
import { readStamped } from "./files";
import { fromBytes } from "./dropped";
import { stampOf, type Manifest } from "./manifest";
import { Told } from "./told";

const KEPT = 256 * 2 ** 20; // bytes of decoded sheets that stay in memory

export class Sprites {
  private readonly sheets = new Map<number, Promise<ImageBitmap>>();
  private readonly pen: CanvasRenderingContext2D | null;

  constructor(private readonly manifest: Manifest) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [manifest.shape[2], manifest.shape[1]];
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    if (this.pen !== null) this.pen.imageSmoothingEnabled = false;
  }

  /** Image i as (C, H, W) in [0, 1]. Throws Told if its sheet cannot be read. */
  async image(i: number): Promise<Float32Array> {
    const [, height, width] = this.manifest.shape;
    const { columns, perSheet } = this.manifest.sprites;
    const sheet = await this.sheet(Math.floor(i / perSheet));
    if (this.pen === null) throw new Told("This browser gives no memory for pictures: close other pages and reload.");
    const cell = i % perSheet;
    this.pen.drawImage(
      sheet,
      (cell % columns) * width,
      Math.floor(cell / columns) * height,
      width,
      height,
      0,
      0,
      width,
      height,
    );
    return fromBytes(this.pen.getImageData(0, 0, width, height).data, this.manifest.shape);
  }

  private sheet(index: number): Promise<ImageBitmap> {
    let found = this.sheets.get(index);
    if (found === undefined) {
      found = this.read(index);
      found.catch(() => this.sheets.delete(index));
    } else {
      this.sheets.delete(index); // to the end: the first is the one longest unused
    }
    this.sheets.set(index, found);
    this.forget();
    return found;
  }

  private forget(): void {
    const [, height, width] = this.manifest.shape;
    const most = Math.max(2, Math.floor(KEPT / (4 * this.manifest.sprites.perSheet * height * width)));
    for (const old of this.sheets.keys()) {
      if (this.sheets.size <= most) return;
      this.sheets.delete(old);
    }
  }

  private async read(index: number): Promise<ImageBitmap> {
    const name = `data/sprites-${String(index).padStart(3, "0")}.png`;
    const content = await readStamped(name, stampOf(this.manifest, name));
    try {
      const plain: ImageBitmapOptions = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
      return await createImageBitmap(new Blob([content], { type: "image/png" }), plain);
    } catch {
      throw new Told(`${name} is not a picture: it is damaged, export the folder again.`);
    }
  }
}
