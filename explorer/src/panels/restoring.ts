/**
 * The damaged image and what is made of it: through the bottleneck, D(E(y)), or by a denoiser, and by the code of greatest
 * posterior, with its objective on the way down.
 */
import type { App } from "../app";
import { degrade, guess, maskOf, psnr, type Erased } from "../degrade";
import { choice, h } from "../dom";
import { clear, draw, picture } from "../pictures";
import { Random } from "../random";
import { solve } from "../restore";
import { sentence } from "../told";
import { descent } from "./descent";
import { say, turns } from "./panel";

const LEAST_SIGMA = 0.01; // where neither the noise nor the decoder gives a scale, as in Python

export interface Restoring {
  element: HTMLElement;
  restore: (image: Float32Array, noise: number, erased: Erased, seed: number) => Promise<void>;
  /** Called while somebody points at a place of the damaged picture, in [0, 1]. */
  onPlace: (call: (x: number, y: number) => void) => void;
}

export function restoring(app: App): Restoring {
  const { manifest, networks, data, stage } = app;
  const { shape } = manifest;
  const through = networks.has("encoder") && networks.has("decoder");
  const damaged = picture(shape, "damaged");
  const bottleneck = picture(shape, networks.has("denoiser") ? "denoised" : "bottleneck");
  const posterior = picture(shape, "MAP");
  const words = [bottleneck, posterior].map(({ element }) => element.appendChild(h("p", { class: "soft" })));
  const fall = descent();
  const facts = h("p", { class: "note" });
  const kinds = through && data.densities !== null ? [...data.densities.kinds.keys()] : [];
  let prior = kinds.includes("normal") ? "normal" : (data.densities?.default ?? "");
  let last: [Float32Array, number, Erased, number] | null = null;
  const which = choice(
    "Prior of MAP",
    kinds.map((name) => [name, name] as const),
    (name) => {
      prior = name;
      if (last !== null) restore(...last).catch((error: unknown) => app.tell(sentence(error)));
    },
  );
  const search = h(
    "div",
    { hidden: true },
    h("h3", {}, "MAP: the objective, step by step"),
    fall.element,
    facts,
    kinds.length > 1 ? h("div", { class: "row" }, h("span", { class: "soft" }, "prior"), which.element) : null,
  );
  const body = h(
    "div",
    { hidden: true },
    h("div", { class: "pictures" }, damaged.element, bottleneck.element, kinds.length > 0 ? posterior.element : null),
    search,
  );
  const begin = turns();

  const restore = async (image: Float32Array, noise: number, erased: Erased, seed: number): Promise<void> => {
    last = [image, noise, erased, seed];
    which.set(prior);
    const current = begin();
    const seen = maskOf(shape, erased);
    const hurt = noise > 0 || seen !== null;
    const empty = image.every((value) => value === 0);
    body.hidden = empty || !(through || networks.has("denoiser"));
    search.hidden = !hurt || kinds.length === 0;
    posterior.element.hidden = !hurt;
    damaged.element.querySelector("figcaption")!.textContent = hurt ? "damaged" : "yours";
    bottleneck.element.querySelector("figcaption")!.textContent = networks.has("denoiser")
      ? "denoised"
      : hurt
        ? "bottleneck"
        : "reconstruction";
    stage?.mark([]);
    if (body.hidden) return;
    const measured = degrade(image, seen, noise, new Random(seed));
    const rough = guess(measured, seen, shape);
    draw(damaged.canvas, shownDamaged(measured, seen, shape[2]), shape);
    if (networks.has("denoiser")) {
      const found = await networks.denoise(rough, 1);
      if (!current()) return;
      draw(bottleneck.canvas, found, shape);
      words[0].textContent = `${say(psnr(image, clipped(found)))} dB`;
      return;
    }
    const code = await networks.encode(rough, 1);
    const redrawn = await networks.decode(code, 1);
    if (!current()) return;
    draw(bottleneck.canvas, redrawn, shape);
    words[0].textContent = `${say(psnr(image, clipped(redrawn)))} dB`;
    const marks = [{ name: hurt ? "bottleneck" : "yours", code }];
    stage?.mark(marks);
    if (!hurt || kinds.length === 0) return;
    clear(posterior.canvas);
    words[1].textContent = "…";
    await new Promise((done) => setTimeout(done, 160)); // until the sliders rest
    if (!current()) return;
    const density = data.densities?.kinds.get(prior);
    if (density === undefined) return;
    const sigma = noise > 0 ? noise : (manifest.sigma ?? LEAST_SIGMA);
    const started = performance.now();
    const found = await solve(
      {
        decode: (codes, count) => networks.decode(codes, count),
        measured,
        seen,
        sigma,
        prior: density,
        scale: data.variances.map(Math.sqrt),
      },
      code,
      {
        onStep: async (path, now) => {
          if (!current()) return false;
          draw(posterior.canvas, now, shape);
          fall.show(path);
          await new Promise((done) => setTimeout(done));
          return current();
        },
      },
    );
    if (!current()) return;
    words[1].textContent = `${say(psnr(image, clipped(found.image)))} dB`;
    const time = Math.round(performance.now() - started);
    const rest = found.converged ? "" : ", not yet at rest";
    facts.textContent =
      `|y − A D(z)|² / 2σ² − log p(z), with σ = ${say(sigma, 2)}, from the bottleneck's code: ` +
      `${found.path.length - 1} steps in ${time} ms${rest}. The curve shows the square root of what is left.`;
    stage?.mark([...marks, { name: "MAP", code: found.code }]);
  };

  const place = (event: PointerEvent, call: (x: number, y: number) => void) => {
    const box = damaged.canvas.getBoundingClientRect();
    const share = (value: number) => Math.min(1, Math.max(0, value));
    call(share((event.clientX - box.left) / box.width), share((event.clientY - box.top) / box.height));
  };
  return {
    element: body,
    restore,
    onPlace: (call) => {
      damaged.canvas.classList.add("placeable");
      damaged.canvas.title = "Drag to erase a square here";
      damaged.canvas.addEventListener("pointerdown", (event) => {
        damaged.canvas.setPointerCapture(event.pointerId);
        place(event, call);
        event.preventDefault();
      });
      damaged.canvas.addEventListener("pointermove", (event) => {
        if (event.buttons === 1) place(event, call);
      });
    },
  };
}

function clipped(image: Float32Array): Float32Array {
  return image.map((value) => Math.min(1, Math.max(0, value)));
}

/** Missing pixels as a chequered grey, so that they are not taken for black ones. */
function shownDamaged(measured: Float32Array, seen: Float32Array | null, width: number): Float32Array {
  if (seen === null) return measured;
  return measured.map((value, i) => {
    const at = i % seen.length;
    if (seen[at] > 0) return value;
    return (((at % width) >> 1) + (Math.floor(at / width) >> 1)) % 2 === 0 ? 0.45 : 0.55;
  });
}
