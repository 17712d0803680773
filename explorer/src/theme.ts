/** Light or dark: as the system has it, or as the reader chooses. */
export type Theme = "light" | "dark";
export type ThemeChoice = "auto" | Theme;

const system = matchMedia("(prefers-color-scheme: dark)");

export function themeOf(choice: ThemeChoice): Theme {
  return choice === "auto" ? (system.matches ? "dark" : "light") : choice;
}

export function applyTheme(choice: ThemeChoice): void {
  document.documentElement.dataset.theme = themeOf(choice);
}

/** Called when the system changes. */
export function onSystemTheme(call: () => void): void {
  system.addEventListener("change", call);
}

/** The colour of a name in theme.css, as it is now. */
export function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
