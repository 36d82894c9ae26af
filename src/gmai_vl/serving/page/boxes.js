// Grounding markup, `<ref>label</ref><box>[[x1, y1, x2, y2]]</box>`: shares of width and height with two decimals.

const MARKED = /(?:<ref>([^<>]*)<\/ref>\s*)?<box>\s*\[([^<>]*)\]\s*<\/box>/g;
const ONE = /\[\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*\]/g;

export const written = (box) => `[[${box.map((share) => share.toFixed(2)).join(", ")}]]`;

// Returns {text, boxes}: the text with its markup told in words, and its boxes as {label, box}, numbered from 1.
export function read(text, word) {
  const boxes = [];
  const told = text.replace(MARKED, (_all, label, inside) => {
    const numbers = [];
    for (const found of inside.matchAll(ONE)) {
      const box = found.slice(1).map(Number);
      if (box.every((share) => share >= 0 && share <= 1) && box[0] < box[2] && box[1] < box[3]) {
        boxes.push({ label: label ?? "", box });
        numbers.push(`${word} ${boxes.length}`);
      }
    }
    return `${label ?? ""} (${numbers.join(", ")})`.trim();
  });
  return { text: told, boxes };
}
