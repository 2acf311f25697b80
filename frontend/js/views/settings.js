// @ts-check
// Default text settings, with a sample.

import { element } from "../element.js";
import { defaults, textControls } from "../text-settings.js";

const SAMPLE =
  "The lamp was lit early that evening. Outside, the rain had settled over the harbour, and the " +
  "boats lay so still that their masts seemed drawn with a pen. She opened the book where the " +
  "ribbon was, and the room went quiet around her.";

/** @returns {Promise<import("../router.js").View>} */
export async function settingsView() {
  const settings = await defaults();
  const root = element("section.settings", {}, element("h1", {}, "Text"));
  if (!settings) {
    root.append(
      element(
        "p.error",
        { role: "alert" },
        "Your account has no text settings. Ask the operator of this server.",
      ),
    );
    return { root, title: "Text" };
  }
  const sample = element("p.sample", {}, SAMPLE);
  const show = () => {
    sample.style.fontFamily = settings.font;
    sample.style.fontSize = `${settings.fontSize}px`;
    sample.style.lineHeight = `${settings.lineHeight}px`;
  };
  show();
  root.append(
    element(
      "p.lead",
      {},
      "New books begin with these settings. Each book keeps its own, which you change while reading.",
    ),
    element(
      "div.split",
      {},
      element("div.card", {}, textControls(settings, show)),
      element("div.card.paper", { "aria-label": "Sample" }, sample),
    ),
  );
  return { root, title: "Text" };
}
