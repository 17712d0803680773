/** Random numbers from a seed, so that what one sees can be had again (mulberry32; Box and Muller 1958). */
export class Random {
  private state: number;
  private spare: number | null = null;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** In [0, 1). */
  uniform(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  /** From N(0, 1). */
  normal(): number {
    if (this.spare !== null) {
      const value = this.spare;
      this.spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** The whole numbers below `count` in random order (Fisher and Yates). */
  order(count: number): Uint32Array {
    const found = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      const j = Math.floor(this.uniform() * (i + 1));
      found[i] = found[j];
      found[j] = i;
    }
    return found;
  }
}
