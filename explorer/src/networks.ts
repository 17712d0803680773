/**
 * The networks, run in the page by ONNX Runtime's wasm: images (B, C, H, W) in [0, 1], codes (B, D), one row after
 * another in one array.
 *
 * The runtime lives on the page's own thread: a decode takes less than a frame, and a worker would add a copy and a hop
 * to every one of them.
 */
import * as ort from "onnxruntime-web/wasm";
import { readFile, readStamped } from "./files";
import type { Manifest, PartName } from "./manifest";
import { Told } from "./told";

export const WASM = "assets/ort-wasm-simd-threaded.wasm";
const AT_ONCE = 256; // rows of one call, so that memory stays bounded

let runtime: Promise<void> | null = null;

/** Make the runtime ready, once. Throws Told where the browser has no WebAssembly. */
function startRuntime(): Promise<void> {
  runtime ??= (async () => {
    if (typeof WebAssembly === "undefined") {
      throw new Told(
        "WebAssembly is switched off in this browser, so no network runs and nothing can be decoded: switch it on, or " +
          "use another browser. The map and the pictures need none of it.",
      );
    }
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "fatal";
    ort.env.wasm.wasmBinary = await readFile(WASM);
  })();
  return runtime;
}

/** Begin to read the runtime before anything else is known; what fails is said where a network is used. */
export function warmUp(): void {
  startRuntime().catch(() => undefined);
}

/** One after the other: the runtime computes one thing at a time. */
let queue: Promise<unknown> = Promise.resolve();

function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const mine = queue.then(work, work);
  queue = mine.catch(() => undefined);
  return mine;
}

export class Network {
  private constructor(
    readonly name: PartName,
    private readonly session: ort.InferenceSession,
    private readonly inner: number[],
  ) {}

  /** Arguments: inner: shape of one row of its input. */
  static async load(name: PartName, manifest: Manifest, inner: number[]): Promise<Network> {
    const part = manifest.parts[name];
    if (part === null) throw new Told(`This run has no ${name}.`);
    const [content] = await Promise.all([readStamped(part.file, part), startRuntime()]);
    try {
      const session = await inTurn(() => ort.InferenceSession.create(new Uint8Array(content)));
      return new Network(name, session, inner);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Told(`${part.file} cannot be run (${reason.slice(0, 160)}): export the folder again.`);
    }
  }

  /** The first output for `count` rows. */
  async run(rows: Float32Array, count: number): Promise<Float32Array> {
    const size = rows.length / count;
    if (count <= AT_ONCE) return this.once(rows, count);
    let found: Float32Array | null = null;
    for (let begin = 0; begin < count; begin += AT_ONCE) {
      const here = Math.min(AT_ONCE, count - begin);
      const part = await this.once(rows.subarray(begin * size, (begin + here) * size), here);
      found ??= new Float32Array((part.length / here) * count);
      found.set(part, (part.length / here) * begin);
    }
    return found ?? new Float32Array();
  }

  private once(rows: Float32Array, count: number): Promise<Float32Array> {
    return inTurn(async () => {
      const { session } = this;
      const given = new ort.Tensor("float32", rows, [count, ...this.inner]);
      const answer = await session.run({ [session.inputNames[0]]: given }, [session.outputNames[0]]);
      return (await answer[session.outputNames[0]].getData()) as Float32Array;
    });
  }
}

/** All networks of a run, each read on first use; null where the run has none of that name. */
export class Networks {
  private readonly loading = new Map<PartName, Promise<Network>>();

  constructor(readonly manifest: Manifest) {}

  has(name: PartName): boolean {
    return this.manifest.parts[name] !== null;
  }

  get(name: PartName): Promise<Network> {
    let found = this.loading.get(name);
    if (found === undefined) {
      const inner = name === "decoder" ? [this.manifest.latentDim ?? 0] : [...this.manifest.shape];
      found = Network.load(name, this.manifest, inner);
      this.loading.set(name, found);
    }
    return found;
  }

  async decode(codes: Float32Array, count: number): Promise<Float32Array> {
    return (await this.get("decoder")).run(codes, count);
  }

  /** Codes of images; of a VAE the means. */
  async encode(images: Float32Array, count: number): Promise<Float32Array> {
    return (await this.get("encoder")).run(images, count);
  }

  async classify(images: Float32Array, count: number): Promise<Float32Array> {
    return (await this.get("classifier")).run(images, count);
  }

  async denoise(images: Float32Array, count: number): Promise<Float32Array> {
    return (await this.get("denoiser")).run(images, count);
  }
}
