/**
 * Every file the page reads: from a block of the single file, `<script id="file:NAME">` in base64, some of them
 * compressed, or beside the page.
 *
 * Names are relative to the page. A file that is missing, cut short or altered is said by name.
 */
import { Told } from "./told";

/** What the manifest says of a file. */
export interface Stamp {
  bytes: number;
  sha256: string;
}

export async function readFile(name: string): Promise<ArrayBuffer> {
  const block = document.getElementById(`file:${name}`);
  if (block !== null) {
    const content = fromBase64(block.textContent ?? "", name);
    return (block.getAttribute("type") ?? "").includes("+gzip") ? unpacked(content, name) : content;
  }
  let answer: Response;
  try {
    answer = await fetch(name);
  } catch {
    throw new Told(`${name} cannot be read: is the server that showed this page still running? Start it and reload.`);
  }
  if (!answer.ok) throw new Told(`${name} is missing (the server says ${answer.status}): export the folder again.`);
  return answer.arrayBuffer();
}

/** A file as the manifest describes it. Throws Told if it is not that. */
export async function readStamped(name: string, stamp: Stamp | undefined): Promise<ArrayBuffer> {
  const content = await readFile(name);
  if (stamp === undefined) return content;
  if (content.byteLength !== stamp.bytes) {
    const [found, due] = [content.byteLength, stamp.bytes].map((count) => count.toLocaleString("en"));
    throw new Told(`${name} has ${found} bytes and should have ${due}: it is damaged, export the folder again.`);
  }
  // Only pages from loopback, https or disk are given the means to hash.
  const hash = globalThis.crypto?.subtle === undefined ? null : await crypto.subtle.digest("SHA-256", content);
  if (hash !== null && stamp.sha256 && hex(new Uint8Array(hash)) !== stamp.sha256.toLowerCase()) {
    throw new Told(`${name} is not the file that was exported (its sha256 differs): export the folder again.`);
  }
  return content;
}

export async function readJson(name: string, stamp?: Stamp): Promise<unknown> {
  const content = await readStamped(name, stamp);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content)) as unknown;
  } catch {
    throw new Told(`${name} is not JSON: it is damaged, export the folder again.`);
  }
}

export function fromBase64(text: string, name: string): ArrayBuffer {
  try {
    const plain = atob(text.trim());
    const bytes = new Uint8Array(plain.length);
    for (let i = 0; i < plain.length; i++) bytes[i] = plain.charCodeAt(i);
    return bytes.buffer;
  } catch {
    throw new Told(`${name} is damaged within this file: export it again.`);
  }
}

async function unpacked(content: ArrayBuffer, name: string): Promise<ArrayBuffer> {
  try {
    return await new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  } catch {
    throw new Told(`${name} is damaged within this file: export it again.`);
  }
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
