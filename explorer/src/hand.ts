/**
 * The hand: one code, held anywhere, and the picture that the decoder makes of it.
 *
 * While a picture is being decoded only the newest wish is kept, so that the picture follows the pointer and never lags
 * behind it.
 */
import type { Networks } from "./networks";
import type { Store } from "./state";
import { sentence } from "./told";

type Show = (pixels: Float32Array, code: Float32Array) => void;

export class Hand {
  /** Milliseconds from the pointer's event to the drawn picture, the last 1000. */
  readonly delays: number[] = [];
  private readonly shows: Show[] = [];
  private pixels: Float32Array | null = null;
  private busy = false;
  private stale = false;
  private since = 0;
  private failed = false;

  constructor(
    private readonly store: Store,
    private readonly networks: Networks,
    private readonly tell: (text: string) => void,
  ) {
    store.on(["hand"], () => this.request());
  }

  /** Take up a code. Arguments: at: when the pointer asked for it (event.timeStamp). */
  take(code: Float32Array, at = performance.now()): void {
    this.since = at;
    this.store.set({ hand: code });
  }

  /** Called with every picture, and at once if there is one. */
  onPicture(show: Show): void {
    this.shows.push(show);
    if (this.pixels !== null) show(this.pixels, this.store.get().hand);
  }

  request(): void {
    if (!this.networks.has("decoder") || this.failed) return;
    this.stale = true;
    if (!this.busy) void this.follow();
  }

  private async follow(): Promise<void> {
    this.busy = true;
    try {
      while (this.stale) {
        this.stale = false;
        const { hand } = this.store.get();
        const asked = this.since;
        this.pixels = await this.networks.decode(hand, 1);
        for (const show of this.shows) show(this.pixels, hand);
        if (asked > 0) this.delays.push(performance.now() - asked);
        if (this.delays.length > 1000) this.delays.shift();
        this.since = 0;
      }
    } catch (error) {
      this.failed = true;
      this.tell(sentence(error));
    } finally {
      this.busy = false;
    }
  }
}
