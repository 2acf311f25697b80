// @ts-check
// Controls for font, size and line height, used for the defaults and for one book.

import { api } from "./api.js";
import { element } from "./element.js";
import { applyTheme, theme } from "./preferences.js";

/** @typedef {{ _id: string, font: string, fontSize: number, lineHeight: number }} Settings */

export const FONTS = [
  ["Times", '"Times New Roman", Times, serif'],
  ["Georgia", "Georgia, serif"],
  ["Palatino", 'Palatino, "Palatino Linotype", "Book Antiqua", serif'],
  ["Sans serif", "Arial, Helvetica, sans-serif"],
  ["Verdana", "Verdana, Geneva, sans-serif"],
  ["Monospace", '"Courier New", Courier, monospace'],
];
const SAVE_DELAY_MS = 400;

/** Size limits keep a line height at least as large as the text. @param {number} size @param {number} spacing */
export function lineHeight(size, spacing) {
  return Math.max(size, Math.round(size * spacing * 2) / 2);
}

/** @returns {Promise<Settings | null>} */
export async function defaults() {
  const rows = await api.call("TextSettings/_getUserDefaultSettings", { user: api.user });
  return rows?.[0]?.settings ?? null;
}

/** @param {string} document @returns {Promise<Settings | null>} */
export async function ofDocument(document) {
  const rows = await api.call("TextSettings/_getDocumentCurrentSettings", { document });
  return rows?.[0]?.settings ?? null;
}

/**
 * Controls that save each change.
 * @param {Settings} settings changed in place
 * @param {(settings: Settings) => void} onChange
 */
export function textControls(settings, onChange) {
  const state = element("p.hint.saved", { role: "status" });
  /** @type {any} */
  let timer;
  const save = async () => {
    const { _id, font, fontSize, lineHeight } = settings;
    try {
      await api.call("TextSettings/editSettings", {
        textSettings: _id,
        font,
        fontSize,
        lineHeight,
      });
      state.textContent = "Saved.";
    } catch (/** @type {any} */ error) {
      state.textContent = `Not saved: ${error.message}`;
    }
  };
  const change = () => {
    onChange(settings);
    state.textContent = "Saving…";
    clearTimeout(timer);
    timer = setTimeout(save, SAVE_DELAY_MS);
  };
  const known = FONTS.some(([, font]) => font === settings.font);
  const fonts = known ? FONTS : [...FONTS, [settings.font, settings.font]];
  const font = element(
    "select",
    {
      id: "font",
      on: {
        change: () => {
          settings.font = font.value;
          change();
        },
      },
    },
    ...fonts.map(([name, value]) =>
      element("option", { value, selected: value === settings.font }, name),
    ),
  );
  let spacing = settings.lineHeight / settings.fontSize;
  const size = slider("size", "Text size", [10, 36, 1], settings.fontSize, "px", (value) => {
    settings.fontSize = value;
    settings.lineHeight = lineHeight(value, spacing);
    change();
  });
  const lines = slider("spacing", "Line spacing", [1, 2.5, 0.05], spacing, "×", (value) => {
    spacing = value;
    settings.lineHeight = lineHeight(settings.fontSize, value);
    change();
  });
  return element(
    "div.text-controls",
    {},
    element("div.field", {}, element("label", { for: "font" }, "Font"), font),
    size,
    lines,
    themeField(),
    state,
  );
}

/**
 * @param {string} id @param {string} label @param {number[]} range @param {number} value
 * @param {string} unit @param {(value: number) => void} onInput
 */
function slider(id, label, [min, max, step], value, unit, onInput) {
  const write = (/** @type {number} */ one) => `${Math.round(one * 100) / 100}\u202f${unit}`;
  const output = element("output", { for: id }, write(value));
  const input = element("input", {
    id,
    type: "range",
    min,
    max,
    step,
    on: {
      input: () => {
        output.textContent = write(Number(input.value));
        onInput(Number(input.value));
      },
    },
  });
  input.value = String(value);
  return element(
    "div.field",
    {},
    element("div.label-line", {}, element("label", { for: id }, label), output),
    input,
  );
}

/** Colours of this browser. */
function themeField() {
  const choices = [
    ["system", "As the system"],
    ["light", "Light"],
    ["dark", "Dark"],
  ];
  const now = theme();
  return element(
    "fieldset.field.choices",
    {},
    element("legend", {}, "Colours in this browser"),
    ...choices.map(([value, text]) =>
      element(
        "label",
        {},
        element("input", {
          type: "radio",
          name: "theme",
          value,
          checked: value === now,
          on: { change: () => applyTheme(value) },
        }),
        text,
      ),
    ),
  );
}
