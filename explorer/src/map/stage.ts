/**
 * The map: three layers that are drawn only when something on them changes. Beneath lie density or decoded pictures and
 * scales; then the points; above them rings, the lasso and the walk. The hand is an element of its own, so that dragging
 * it draws none of them.
 */
import type { Dataset } from "../dataset";
import { h } from "../dom";
import type { Hand } from "../hand";
import type { Networks } from "../networks";
import { draw } from "../pictures";
import { placeOf, places, possibleSight } from "../sight";
import type { State, Store } from "../state";
import { themeOf, token } from "../theme";
import { sentence } from "../told";
import { fitted, rotation, toScreen, turned, type Camera, type Window } from "./camera";
import { PictureGrid } from "./grid";
import { bandImage, drawBands, drawScales, drawTripod } from "./ground";
import { cross, drawLasso, drawWalk, prepare, ring } from "./overlay";
import { Picking } from "./picking";
import { PlainPoints } from "./plain";
import { GlPoints, type Look, type PointLayer } from "./points";
import { shading, type Shading } from "./shading";
import { Tip } from "./tip";

export interface Mark {
  name: string;
  code: Float32Array;
}

export class Stage {
  readonly element: HTMLElement;
  readonly marker: HTMLButtonElement;
  readonly window: Window = { width: 0, height: 0 };
  lasso: [number, number][] = [];
  private readonly under = h("canvas", { class: "layer" });
  private readonly over = h("canvas", { class: "layer" });
  private readonly tripod = h("canvas", { class: "tripod" });
  private readonly lens: HTMLCanvasElement;
  private readonly tip: Tip;
  private readonly grid: PictureGrid;
  private layer: PointLayer;
  private places: Float32Array = new Float32Array();
  private picking: Picking | null = null;
  private pickStale = true;
  private bands: { shading: Shading; image: HTMLCanvasElement } | null = null;
  private bandsStale = true;
  private usual: Camera | null = null;
  private usualFor = "";
  private overdrawn = false; // whether there is anything on the upper layer
  private marks: Mark[] = [];
  private due = new Set<"under" | "points" | "over">();
  /** Milliseconds of the last 1000 drawn frames, on this thread. */
  readonly frames: number[] = [];
  readonly webgl: boolean;

  constructor(
    readonly data: Dataset,
    private readonly networks: Networks,
    private readonly store: Store,
    hand: Hand,
    tell: (text: string) => void,
  ) {
    const { shape } = data.manifest;
    this.lens = h("canvas", { class: "picture lens", width: shape[2], height: shape[1], "aria-hidden": "true" });
    this.lens.hidden = true; // until there is a picture
    this.marker = h(
      "button",
      { class: "hand", type: "button", "aria-label": "The hand: arrow keys move it" },
      this.lens,
    );
    this.tip = new Tip(data);
    this.grid = new PictureGrid(
      data,
      networks,
      () => this.want("under"),
      (error) => tell(sentence(error)),
    );
    let layer: PointLayer | null = null;
    try {
      layer = new GlPoints(data.labels, () => this.withoutGl(tell, "The browser has taken WebGL away from this page"));
    } catch (error) {
      tell(sentence(error));
    }
    this.webgl = layer !== null;
    this.layer = layer ?? new PlainPoints(data.labels);
    this.element = h(
      "div",
      { class: "stage", tabindex: "0", role: "application", "aria-label": STAGE_WORDS, "aria-roledescription": "map" },
      this.under,
      this.layer.canvas,
      this.over,
      this.tripod,
      this.marker,
      this.tip.element,
    );
    this.layer.canvas.classList.add("layer");
    hand.onPicture((pixels) => {
      draw(this.lens, pixels, shape);
      this.lens.hidden = false;
    });
    new ResizeObserver(() => this.resize()).observe(this.element);
    this.see();
    store.on(["sight"], () => this.see());
    store.on(["camera"], () => this.moved());
    store.on(["hand"], () => {
      this.placeMarker();
      if (this.store.get().ground === "grid" && this.data.dim > 2) this.want("under");
    });
    store.on(["hidden"], () => {
      this.bandsStale = true;
      this.moved();
    });
    store.on(["theme", "size", "ground"], () => this.moved());
    store.on(["theme"], () => (this.bandsStale = true));
    const tab = () => this.element.toggleAttribute("data-lens", ["hand", "walk", "new"].includes(store.get().tab));
    store.on(["tab"], tab);
    tab();
    store.on(["chosen", "walk", "group"], () => this.want("over"));
    store.on(["group"], (state) => {
      this.layer.setGroup(state.group);
      this.want("points");
    });
  }

  get camera(): Camera {
    return this.store.get().camera ?? this.fit();
  }

  /** The camera that shows all points. */
  fit(): Camera {
    const { sight } = this.store.get();
    const key = `${JSON.stringify(sight)} ${this.window.width} ${this.window.height}`;
    if (this.usual === null || key !== this.usualFor) {
      this.usual = fitted(this.places, sight.dimensions, this.window);
      this.usualFor = key;
    }
    return this.usual;
  }

  /** Crosses with names on the map: your image, and what was made of it. */
  mark(marks: Mark[]): void {
    this.marks = marks;
    this.want("over");
  }

  /** The point under (x, y) in pixels of the stage, or -1. */
  pick(x: number, y: number, reach = 9): number {
    if (this.pictured()) return -1;
    return this.currentPicking().nearest(x, y, reach);
  }

  inside(polygon: readonly [number, number][]): number[] {
    return this.currentPicking().inside(polygon);
  }

  /** Where on the stage a code lies. */
  where(code: ArrayLike<number>): [number, number, number] {
    return toScreen(this.camera, this.window, placeOf(this.store.get().sight, this.data, code));
  }

  /** Show the image of a point beside it; -1 for none. */
  async hover(i: number): Promise<void> {
    if (i === this.tip.point) return;
    this.want("over");
    await this.tip.show(i, i < 0 ? [0, 0] : this.screenOf(i), this.window);
  }

  /** Draw everything now and put all layers onto one canvas, at the screen's own resolution. */
  compose(): HTMLCanvasElement {
    this.due = new Set(["under", "points", "over"]);
    this.render();
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const found = h("canvas", { width: this.window.width * ratio, height: this.window.height * ratio });
    const pen = found.getContext("2d");
    if (pen === null) return found;
    pen.fillStyle = token("paper");
    pen.fillRect(0, 0, found.width, found.height);
    for (const canvas of [this.under, this.layer.canvas, this.over]) {
      if (canvas.width > 0 && !canvas.hidden) pen.drawImage(canvas, 0, 0, found.width, found.height);
    }
    if (!this.tripod.hidden) pen.drawImage(this.tripod, 0, found.height - TRIPOD.height * ratio);
    const [x, y] = this.where(this.store.get().hand).map((value) => value * ratio);
    pen.save();
    pen.scale(ratio, ratio);
    ring(pen, [x / ratio, y / ratio], 9, token("accent"));
    pen.restore();
    if (!this.lens.hidden && this.element.hasAttribute("data-lens")) {
      pen.imageSmoothingEnabled = false;
      const side = 72 * ratio;
      pen.drawImage(this.lens, x + 16 * ratio, y + 16 * ratio, side, side);
      pen.strokeStyle = token("accent");
      pen.lineWidth = 1.5 * ratio;
      pen.strokeRect(x + 16 * ratio, y + 16 * ratio, side, side);
    }
    return found;
  }

  /** Turn the map by `frames` small steps, one a frame, and say how long they took: for benchmarks. */
  async turn(frames: number): Promise<{ milliseconds: number; framesPerSecond: number }> {
    const next = () => new Promise((done) => requestAnimationFrame(done));
    await next();
    const begin = performance.now();
    for (let k = 0; k < frames; k++) {
      this.store.set({ camera: turned(this.camera, this.window, 3, 0) });
      await next();
    }
    await next();
    const milliseconds = performance.now() - begin;
    return { milliseconds, framesPerSecond: (1000 * (frames + 1)) / milliseconds };
  }

  want(...layers: ("under" | "points" | "over")[]): void {
    if (this.due.size === 0) requestAnimationFrame(() => this.render());
    for (const layer of layers) this.due.add(layer);
  }

  private see(): void {
    const state = this.store.get();
    const sight = possibleSight(state.sight, this.data);
    if (sight !== state.sight && JSON.stringify(sight) !== JSON.stringify(state.sight)) this.store.set({ sight });
    this.places = places(sight, this.data);
    this.layer.setPlaces(this.places);
    this.layer.setGroup(state.group);
    this.picking = new Picking(this.places);
    this.usual = null;
    this.bandsStale = true;
    this.moved();
  }

  private moved(): void {
    this.pickStale = true;
    void this.hover(-1);
    this.placeMarker();
    this.want("under", "points", "over");
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.element;
    if (clientWidth === this.window.width && clientHeight === this.window.height) return;
    this.window.width = clientWidth;
    this.window.height = clientHeight;
    this.moved();
  }

  private placeMarker(): void {
    const [x, y] = this.where(this.store.get().hand);
    const { width, height } = this.window;
    const out = !(x >= -4 && y >= -4 && x <= width + 4 && y <= height + 4);
    this.marker.classList.toggle("out", out);
    const [inX, inY] = [Math.min(width - 6, Math.max(6, x)), Math.min(height - 6, Math.max(6, y))];
    this.marker.style.transform = `translate(${inX.toFixed(1)}px, ${inY.toFixed(1)}px)`;
    this.marker.classList.toggle("flip", inX > width - 110);
    this.marker.classList.toggle("flop", inY > height - 110);
  }

  private render(): void {
    const due = this.due;
    this.due = new Set();
    if (this.window.width === 0 || this.window.height === 0) return;
    const begin = performance.now();
    const state = this.store.get();
    if (due.has("under")) this.drawUnder(state);
    this.layer.canvas.hidden = this.pictured();
    if (due.has("points") && !this.pictured()) this.layer.draw(this.camera, this.window, this.look(state));
    if (due.has("over")) this.drawOver(state);
    this.frames.push(performance.now() - begin);
    if (this.frames.length > 1000) this.frames.shift();
  }

  private look(state: State): Look {
    const shown = this.places.length / 3;
    const usual = Math.min(
      7,
      Math.max(
        2.6,
        17 * Math.max(shown, 1) ** -0.16 * Math.sqrt(Math.min(this.window.width, this.window.height) / 800),
      ),
    );
    const closer = Math.min(2.2, Math.max(1, (this.camera.scale / this.fit().scale) ** 0.35));
    const { theme, hidden, sight, size } = state;
    const reach = 1 / this.fit().scale;
    return {
      theme: themeOf(theme),
      hidden,
      dimensions: sight.dimensions,
      size: usual * closer * size,
      ink: token("ink"),
      paper: token("paper"),
      reach,
    };
  }

  /** Whether a grid of pictures makes no sense here: in space, on a layout, without a decoder. */
  gridless(state: Readonly<State>): boolean {
    return state.sight.dimensions === 3 || state.sight.kind === "layout" || !this.networks.has("decoder");
  }

  /** Whether the map is covered with decoded pictures, which would hide among the points. */
  private pictured(): boolean {
    const state = this.store.get();
    return state.ground === "grid" && !this.gridless(state);
  }

  private drawUnder(state: State): void {
    const { sight, ground } = state;
    const spatial = sight.dimensions === 3;
    this.under.hidden = spatial;
    this.tripod.hidden = !spatial;
    if (spatial) {
      // On a canvas of its own, a small one: the large one is not drawn while the map turns.
      const small = prepare(this.tripod, TRIPOD);
      if (small !== null) drawTripod(small, sight, this.data, rotation(this.camera), TRIPOD);
      return;
    }
    const pen = prepare(this.under, this.window);
    if (pen === null) return;
    if (this.pictured()) {
      this.grid.draw(pen, sight, state.hand, this.camera, this.window);
      return;
    }
    if (ground !== "plain") {
      if (this.bandsStale)
        setTimeout(() => this.shade()); // after the points, which are there at once
      else if (this.bands !== null) drawBands(pen, this.bands.image, this.bands.shading, this.camera, this.window);
    }
    drawScales(pen, sight, this.data, this.camera, this.window);
  }

  private shade(): void {
    if (!this.bandsStale) return;
    const { hidden } = this.store.get();
    const found = shading(this.places, (i) => !hidden.has(this.data.labels[i]));
    this.bands = found === null ? null : { shading: found, image: bandImage(found) };
    this.bandsStale = false;
    this.want("under");
  }

  private drawOver(state: State): void {
    const some =
      state.walk !== null ||
      state.chosen !== null ||
      this.tip.point >= 0 ||
      this.marks.length > 0 ||
      this.lasso.length > 1;
    if (!some && !this.overdrawn) return;
    this.overdrawn = some;
    const pen = prepare(this.over, this.window);
    if (pen === null) return;
    const { walk, chosen } = state;
    if (walk !== null) {
      drawWalk(pen, walk, this.data.code(walk.from), this.data.code(walk.to), (code) => this.where(code));
    }
    if (chosen !== null) ring(pen, this.screenOf(chosen), 9, token("ink"));
    if (this.tip.point >= 0) ring(pen, this.screenOf(this.tip.point), 7, token("accent"));
    for (const { name, code } of this.marks) cross(pen, name, this.where(code));
    drawLasso(pen, this.lasso);
  }

  private screenOf(i: number): [number, number] {
    if (3 * i >= this.places.length) return [-99, -99];
    const [x, y] = toScreen(this.camera, this.window, Array.from(this.places.subarray(3 * i, 3 * i + 3)));
    return [x, y];
  }

  private currentPicking(): Picking {
    const picking = (this.picking ??= new Picking(this.places));
    if (this.pickStale) {
      const { hidden } = this.store.get();
      picking.update(this.camera, this.window, (i) => !hidden.has(this.data.labels[i]));
      this.pickStale = false;
    }
    return picking;
  }

  private withoutGl(tell: (text: string) => void, reason: string): void {
    if (this.layer instanceof PlainPoints) return;
    tell(`${reason}: the map is drawn without it, which is slower. Reload to try again.`);
    const plain = new PlainPoints(this.data.labels);
    plain.canvas.classList.add("layer");
    plain.setPlaces(this.places);
    plain.setGroup(this.store.get().group);
    this.layer.canvas.replaceWith(plain.canvas);
    this.layer = plain;
    this.want("points");
  }
}

const TRIPOD: Window = { width: 190, height: 130 };

const STAGE_WORDS =
  "Map of codes. Arrow keys move or turn it, plus and minus zoom, 0 shows all, H M L choose the hand, moving or the " +
  "lasso, N and P go through the images, Escape clears the lasso.";
