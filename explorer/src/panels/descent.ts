/** The objective on its way down, as a line. */
import { say } from "./panel";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [360, 110, 4, 20, 14];

export function descent(): { element: SVGSVGElement; show: (path: readonly number[]) => void } {
  const element = make("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    class: "descent",
    role: "img",
    "aria-label": "No search yet",
  });
  return {
    element,
    show: (path) => {
      element.replaceChildren();
      if (path.length === 0) return;
      const [first, last] = [path[0], path[path.length - 1]];
      const least = Math.min(...path);
      // Above the least by how much, on a scale that spreads small differences: most of the way is made in two steps.
      const rise = (value: number) => Math.sqrt((value - least) / Math.max(first - least, 1e-9));
      const x = (k: number) => LEFT + ((WIDTH - 2 * LEFT) * k) / Math.max(path.length - 1, 1);
      const y = (value: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - rise(value));
      element.append(
        make("line", {
          x1: LEFT,
          x2: WIDTH - LEFT,
          y1: HEIGHT - BOTTOM + 0.5,
          y2: HEIGHT - BOTTOM + 0.5,
          class: "axis",
        }),
      );
      element.append(
        make("polyline", {
          points: path.map((value, k) => `${x(k).toFixed(1)},${y(value).toFixed(1)}`).join(" "),
          class: "curve",
        }),
      );
      path.forEach((value, k) => element.append(make("circle", { cx: x(k), cy: y(value), r: 2.6, class: "dot" })));
      element.append(label(LEFT, HEIGHT - 5, "start", `start ${say(first, 4)}`));
      element.append(label(WIDTH - LEFT, HEIGHT - 5, "end", `${path.length - 1} steps: ${say(last, 4)} nats`));
      element.setAttribute(
        "aria-label",
        `The objective fell from ${say(first, 4)} to ${say(last, 4)} nats in ${path.length - 1} steps`,
      );
    },
  };
}

function label(x: number, y: number, anchor: string, text: string): SVGElement {
  const element = make("text", { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
}

function make<K extends keyof SVGElementTagNameMap>(
  tag: K,
  given: Record<string, string | number>,
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, String(value));
  return element;
}
