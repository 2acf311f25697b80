// @ts-check
// Forms: labelled fields, errors in place, and a button that is busy while a request runs.

import { element } from "./element.js";

let count = 0;

/**
 * A labelled field.
 * @param {string} label
 * @param {Record<string, any>} properties of the input
 * @param {string} [hint]
 */
export function field(label, properties, hint) {
  count += 1;
  const id = `field-${count}`;
  const hintId = hint ? `${id}-hint` : undefined;
  const input = element("input", { id, "aria-describedby": hintId, required: true, ...properties });
  const root = element(
    "div.field",
    {},
    element("label", { for: properties.id ?? id }, label),
    input,
    hint && element("p.hint", { id: hintId }, hint),
  );
  return { root, input };
}

/**
 * A form whose errors appear above its button.
 * @param {{ button: string, name: string, danger?: boolean }} text
 * @param {Node[]} fields
 * @param {() => Promise<void>} submit
 * @returns {HTMLFormElement}
 */
export function form({ button, name, danger = false }, fields, submit) {
  const error = element("p.error", { role: "alert", hidden: true });
  const send = element(danger ? "button.danger" : "button.primary", { type: "submit" }, button);
  return element(
    "form",
    {
      "aria-label": name,
      on: {
        submit: async (/** @type {SubmitEvent} */ event) => {
          event.preventDefault();
          if (send.disabled) return;
          error.hidden = true;
          send.disabled = true;
          send.setAttribute("aria-busy", "true");
          try {
            await submit();
          } catch (/** @type {any} */ failure) {
            error.textContent = failure.message;
            error.hidden = false;
          } finally {
            send.disabled = false;
            send.removeAttribute("aria-busy");
          }
        },
      },
    },
    ...fields,
    error,
    element("p.actions", {}, send),
  );
}

/**
 * Asks before something is lost. Resolves to true if confirmed.
 * @param {{ title: string, text: string, button: string }} words
 * @param {Node[]} [fields]
 * @param {() => Promise<void>} [act] runs while the dialog is open; its error is shown there
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, button }, fields = [], act = async () => {}) {
  return new Promise((done) => {
    const dialog = element("dialog.confirm", { "aria-label": title });
    const cancel = element(
      "button",
      { type: "button", on: { click: () => dialog.close() } },
      "Cancel",
    );
    const asked = form({ button, name: title, danger: true }, fields, async () => {
      await act();
      dialog.close("yes");
    });
    asked.querySelector(".actions")?.prepend(cancel);
    dialog.append(element("h2", {}, title), element("p", {}, text), asked);
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
