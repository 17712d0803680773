/** What every part of the page is given. */
import type { Dataset } from "./dataset";
import type { Hand } from "./hand";
import type { Manifest } from "./manifest";
import type { Stage } from "./map/stage";
import type { Networks } from "./networks";
import type { Store } from "./state";

export interface App {
  manifest: Manifest;
  data: Dataset;
  networks: Networks;
  store: Store;
  hand: Hand;
  /** The map; null where the run has no codes. */
  stage: Stage | null;
  /** Take an image to the board of "Your image". */
  showYours: (pixels: Float32Array, name: string) => void;
  /** Show a sentence at the top of the page, once. */
  tell: (text: string) => void;
}
