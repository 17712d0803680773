/** Elements in one call: h("button", { class: "wide", onclick: go }, "Go"). */
type Value = string | number | boolean | null | undefined | ((event: never) => void);

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  given: Record<string, Value> = {},
  ...children: (Node | string | null)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child): child is Node | string => child !== null));
  return element;
}

/** Replace what an element holds. */
export function fill(element: Element, ...children: (Node | string | null)[]): void {
  element.replaceChildren(...children.filter((child): child is Node | string => child !== null));
}

let number = 0;

/** A label, a slider and its value, which the slider's own text says too. */
export function slider(
  name: string,
  range: { min: number; max: number; step: number; value: number },
  show: (value: number) => string,
  onInput: (value: number) => void,
): { element: HTMLElement; input: HTMLInputElement; set: (value: number) => void } {
  const id = `slider-${++number}`;
  const output = h("output", { for: id }, show(range.value));
  const input = h("input", { type: "range", id, min: range.min, max: range.max, step: range.step, value: range.value });
  const say = () => {
    output.textContent = show(input.valueAsNumber);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => {
    say();
    onInput(input.valueAsNumber);
  });
  const element = h("div", { class: "slider" }, h("label", { for: id }, name), input, output);
  say();
  return {
    element,
    input,
    set: (value) => {
      input.value = String(value);
      output.textContent = show(value);
      input.setAttribute("aria-valuetext", output.textContent);
    },
  };
}

/** A choice of few, as a row of buttons of which one is pressed. */
export function choice<T extends string>(
  label: string,
  all: readonly (readonly [T, string])[],
  onChoose: (value: T) => void,
): { element: HTMLElement; set: (value: T) => void; enable: (value: T, possible: boolean) => void } {
  const buttons = new Map(
    all.map(([value, text]) => [value, h("button", { type: "button", onclick: () => onChoose(value) }, text)] as const),
  );
  const element = h("div", { class: "choice", role: "group", "aria-label": label }, ...buttons.values());
  return {
    element,
    set: (value) => buttons.forEach((button, key) => button.setAttribute("aria-pressed", String(key === value))),
    enable: (value, possible) => {
      const button = buttons.get(value);
      if (button !== undefined) button.disabled = !possible;
    },
  };
}
