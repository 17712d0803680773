/** Laws of the map: cameras, picking, sights, bands, colours, addresses. */
import { describe, expect, it } from "vitest";
import { heat, hex, palette, shapeOf, UNLABELLED } from "../src/colours";
import { Dataset, moments } from "../src/dataset";
import type { Manifest } from "../src/manifest";
import { fitted, panned, toPlace, toScreen, turned, zoomed, type Camera } from "../src/map/camera";
import { contains, Picking } from "../src/map/picking";
import { BANDS, shading, thresholds } from "../src/map/shading";
import { Random } from "../src/random";
import { codeAt, firstSight, placeOf, places, possibleSight, type Sight } from "../src/sight";
import { fromHash, Store, toHash, type State } from "../src/state";

const window = { width: 800, height: 600 };
const camera: Camera = { centre: [1, 2, 3], scale: 0.4, yaw: 0.7, pitch: -0.3 };
const close = (a: ArrayLike<number>, b: ArrayLike<number>, digits = 6) =>
  Array.from(a).forEach((value, i) => expect(value).toBeCloseTo(b[i], digits));

describe("cameras", () => {
  it("find the place on the screen again", () => {
    const place = [0.3, -1, 2];
    const [x, y] = toScreen(camera, window, place);
    close(toPlace(camera, window, x, y, place), place);
  });
  it("put the middle of the map into the middle of the window", () => {
    close(toScreen(camera, window, camera.centre), [400, 300, 0]);
  });
  it("pan by the pixels of the drag", () => {
    const [x, y] = toScreen(camera, window, [0, 0, 0]);
    close(toScreen(panned(camera, window, 30, -12), window, [0, 0, 0]).slice(0, 2), [x + 30, y - 12]);
  });
  it("keep what is under the pointer when they come closer", () => {
    const held = toPlace(camera, window, 100, 150, camera.centre);
    close(toScreen(zoomed(camera, window, 2, 100, 150), window, held).slice(0, 2), [100, 150]);
  });
  it("keep distances when they turn", () => {
    const place = [0, 1, -1];
    const long = (each: Camera) => {
      const [x, y, z] = toScreen(each, window, place);
      return Math.hypot((x - 400) / 120, (y - 300) / 120, z);
    };
    expect(long(turned(camera, window, 55, 21))).toBeCloseTo(long(camera), 6);
  });
  it("show all points of a flat map", () => {
    const source = new Random(2);
    const points = Float32Array.from({ length: 300 }, (_, i) =>
      i % 3 === 2 ? 0 : 5 + source.uniform() * (i % 3 === 0 ? 4 : 1),
    );
    const found = fitted(points, 2, window);
    for (let i = 0; i < 100; i++) {
      const [x, y] = toScreen(found, window, [...points.subarray(3 * i, 3 * i + 3)]);
      expect(x > 0 && y > 0 && x < 800 && y < 600).toBe(true);
    }
  });
});

describe("picking", () => {
  const source = new Random(5);
  const points = Float32Array.from({ length: 3 * 500 }, () => 4 * source.uniform() - 1);
  const picking = new Picking(points);
  picking.update(camera, window, (i) => i % 5 !== 0);
  it("finds the nearest of the points shown, as asking all does", () => {
    for (let k = 0; k < 200; k++) {
      const [x, y] = [800 * source.uniform(), 600 * source.uniform()];
      let [wanted, least] = [-1, 25];
      for (let i = 0; i < 500; i++) {
        const [px, py] = toScreen(camera, window, [...points.subarray(3 * i, 3 * i + 3)]);
        const distance = Math.hypot(px - x, py - y);
        const inside = px >= 0 && py >= 0 && px < 800 && py < 600;
        if (i % 5 !== 0 && inside && distance < least) [wanted, least] = [i, distance];
      }
      expect(picking.nearest(x, y, 25)).toBe(wanted);
    }
  });
  it("a lasso around all takes all that are shown", () => {
    const all = picking.inside([
      [-9, -9],
      [999, -9],
      [999, 999],
      [-9, 999],
    ]);
    expect(all.every((i) => i % 5 !== 0)).toBe(true);
    expect(all.length).toBeGreaterThan(100);
  });
  it("a dent of the lasso is outside", () => {
    const dented = [
      [0, 0],
      [10, 0],
      [10, 10],
      [5, 2],
      [0, 10],
    ] as const;
    expect(contains(dented, 5, 6)).toBe(false);
    expect(contains(dented, 2, 3)).toBe(true);
  });
});

function dataset(dim: number, principal = true): Dataset {
  const source = new Random(9);
  const count = 50;
  const codes = Float32Array.from({ length: count * dim }, (_, at) => source.normal() * (1 + (at % dim)));
  const { mean, variances } = moments(codes, dim);
  const axes = Array.from({ length: Math.min(3, dim) }, (_, k) =>
    Float64Array.from({ length: dim }, (_, j) => (j === dim - 1 - k ? 1 : 0)),
  );
  const manifest = {
    latentDim: dim,
    count,
    layout: { name: "t-SNE", count: 20 },
    classes: ["a", "b"],
  } as unknown as Manifest;
  const layout = Float32Array.from({ length: 40 }, () => source.normal());
  return new Dataset(
    manifest,
    codes,
    new Int16Array(count),
    layout,
    principal ? { mean, axes, explained: [0.5] } : null,
    null,
    mean,
    variances,
    null as never,
  );
}

describe("sights", () => {
  const sights: Sight[] = [
    { kind: "axes", dimensions: 2, axes: [4, 1, 0] },
    { kind: "axes", dimensions: 3, axes: [4, 1, 0] },
    { kind: "principal", dimensions: 2, axes: [0, 0, 0] },
    { kind: "principal", dimensions: 3, axes: [0, 0, 0] },
  ];
  const data = dataset(5);
  it("a code moved to a place lies there, and differs only along the map", () => {
    for (const sight of sights) {
      const from = data.code(3);
      const place = sight.dimensions === 3 ? [0.5, -1, 2] : [0.5, -1, 0];
      const code = codeAt(sight, data, place, from);
      close(placeOf(sight, data, code), place, 5);
      close(codeAt(sight, data, placeOf(sight, data, from), code), from, 5);
    }
  });
  it("points lie where their codes lie", () => {
    for (const sight of sights) close(places(sight, data).slice(21, 24), placeOf(sight, data, data.code(7)), 5);
  });
  it("on a layout a point's code lies at that point, and the hand there holds its code", () => {
    const sight: Sight = { kind: "layout", dimensions: 2, axes: [0, 0, 0] };
    const [x, y] = places(sight, data).subarray(9, 11);
    close(placeOf(sight, data, data.code(3)), [x, y, 0], 4);
    close(codeAt(sight, data, [x, y], data.code(0)), data.code(3), 4);
    expect(places(sight, data).length).toBe(60);
  });
  it("begins with what there is, and leaves what there is not", () => {
    expect(firstSight(data).kind).toBe("principal");
    expect(firstSight(dataset(2)).axes.slice(0, 2)).toEqual([0, 1]);
    expect(firstSight(dataset(1)).dimensions).toBe(2);
    expect(possibleSight({ kind: "axes", dimensions: 2, axes: [0, 9, 0] }, data)).toEqual(firstSight(data));
    expect(possibleSight({ kind: "layout", dimensions: 3, axes: [0, 1, 2] }, data).dimensions).toBe(2);
  });
});

describe("bands", () => {
  it("hold the share of points they say", () => {
    const source = new Random(4);
    const points = new Float32Array(3 * 5000).map((_, i) => (i % 3 === 2 ? 0 : source.normal()));
    const found = shading(points, () => true)!;
    BANDS.forEach((share, k) => {
      let inside = 0;
      for (let i = 0; i < 5000; i++) {
        const column = Math.floor(((points[3 * i] - found.left) / found.width) * found.cells);
        const row = Math.floor(((found.top - points[3 * i + 1]) / found.height) * found.cells);
        if (found.bands[row * found.cells + column] >= BANDS.length - k) inside++;
      }
      expect(Math.abs(inside / 5000 - share)).toBeLessThan(0.04);
    });
  });
  it("of a flat density are everywhere, and of too few points nowhere", () => {
    thresholds(new Float32Array(100).fill(1)).forEach((value) => expect(value).toBe(1));
    expect(shading(new Float32Array(9), () => true)).toBeNull();
    expect(shading(new Float32Array(300), () => true)).toBeNull();
  });
});

describe("colours", () => {
  it("of hidden classes are transparent, and the eleventh class has another shape", () => {
    const found = palette("light", new Set([3, -1]));
    expect([found[4 * 3 + 3], found[4 * 4 + 3], found[4 * UNLABELLED + 3]]).toEqual([0, 255, 0]);
    expect(hex(10, "light")).toBe(hex(0, "light"));
    expect([shapeOf(0), shapeOf(10), shapeOf(25)]).toEqual([0, 1, 2]);
  });
  it("of an error rise in brightness", () => {
    const bright = [0, 0.25, 0.5, 0.75, 1].map((share) => heat(share).reduce((sum, value) => sum + value, 0));
    expect([...bright].sort((a, b) => a - b)).toEqual(bright);
  });
});

describe("addresses", () => {
  const first: State = {
    sight: { kind: "principal", dimensions: 2, axes: [0, 1, 2] },
    camera: null,
    hidden: new Set(),
    tab: "hand",
    tool: "hand",
    ground: "density",
    size: 1,
    hand: Float32Array.from([0, 0, 0]),
    chosen: null,
    group: [],
    walk: null,
    theme: "auto",
  };
  it("bring back the view", () => {
    const state: State = {
      ...first,
      sight: { kind: "axes", dimensions: 3, axes: [2, 0, 1] },
      camera: { centre: [0.5, 1, 0], scale: 0.25, yaw: 1, pitch: -0.5 },
      hidden: new Set([1, -1]),
      tab: "walk",
      tool: "lasso",
      ground: "grid",
      size: 1.5,
      hand: Float32Array.from([0.5, -1.25, 2]),
      chosen: 4,
      walk: { from: 1, to: 2, t: 0.5, way: "spherical" },
      theme: "dark",
    };
    expect(fromHash(`#${toHash(state, first)}`, first, 10)).toEqual(state);
    expect(toHash(first, first)).toBe("");
  });
  it("that say nonsense are left aside", () => {
    const found = fromHash(
      "#see=sideways&from=1,2&hide=x&tab=nowhere&size=99&hand=1,2&image=-4&walk=1,99,2&theme=green&%=",
      first,
      10,
    );
    expect(found).toEqual(first);
  });
  it("tell those who depend on what has changed, and no others", () => {
    const store = new Store(first);
    const calls: string[] = [];
    store.on(["tab"], () => calls.push("tab"));
    store.on(["hand"], () => calls.push("hand"));
    store.set({ tab: "new" });
    store.set({ tab: "new" });
    expect(calls).toEqual(["tab"]);
  });
});
