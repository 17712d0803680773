/** What goes wrong, in a sentence for the reader of the page. Any other error is a mistake of the page itself. */
export class Told extends Error {}

/** The sentence to show for whatever was thrown. */
export function sentence(error: unknown): string {
  if (error instanceof Told) return error.message;
  return `The page itself has failed (${error instanceof Error ? error.message : String(error)}). Please report this.`;
}
