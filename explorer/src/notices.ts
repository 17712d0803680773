/** Sentences at the top of the page about what is missing or has failed: each once, to be put away when read. */
import { h } from "./dom";

export class Notices {
  readonly element = h("div", { class: "notices", role: "status", "aria-live": "polite" });
  private readonly told = new Set<string>();

  tell = (text: string): void => {
    if (this.told.has(text)) return;
    this.told.add(text);
    const line = h("p", {}, text);
    const away = h(
      "button",
      { type: "button", class: "quiet", "aria-label": "Put this notice away", onclick: () => line.remove() },
      "×",
    );
    line.append(away);
    this.element.append(line);
  };
}
