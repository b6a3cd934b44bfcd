/**
 * Makes elements. Text becomes text nodes and nothing else: there is no way to pass markup.
 */

/**
 * @typedef {Node | string | number | null | undefined | false} Child
 *
 * @typedef {Record<string, unknown>} Properties
 */

/**
 * Makes an element. `onclick` and the like become listeners, true an empty attribute, false, null and undefined none.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Properties} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on") && typeof value === "function") {
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  fill(element, ...children);
  return element;
}

/**
 * Puts these children, and only these, into an element.
 *
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  const shown = children.filter((child) => child !== null && child !== undefined && child !== false);
  element.replaceChildren(...shown.map((child) => (child instanceof Node ? child : String(child))));
}

/**
 * Makes a list hold these items in this order and touches only what differs, so that focus, selection and clicks that are
 * under way survive.
 *
 * @param {Element} list
 * @param {Element[]} items
 */
export function arrange(list, items) {
  const wanted = new Set(items);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  let at = list.firstElementChild;
  for (const item of items) {
    if (at === item) at = at.nextElementSibling;
    else list.insertBefore(item, at);
  }
}

/** Shapes of 16 by 16, drawn as lines. */
const SHAPES = {
  stored: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z",
  held: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2ZM8 5v3.4l2.4 1.6",
  delivered: "M2.5 8.5 6.5 12.5 13.5 4",
  read: "M1 8.5 4.5 12 10.5 4.5M7.5 11 8.5 12 15 4.5",
  expired: "M4 4 12 12M12 4 4 12",
  removed: "M4 4 12 12M12 4 4 12",
  info: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM8 7.2v4M8 4.8v.2",
  warning: "M8 2 15 14H1ZM8 6.5v3.6M8 11.8v.3",
  critical: "M5 1.5h6L14.5 5v6L11 14.5H5L1.5 11V5ZM8 4.5v4.4M8 11v.3",
  near: "M8 4.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.6Z",
  away: "M8 4.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.6Z",
  sound: "M2 6h2.5L8 3v10L4.500 10H2ZM10.500 5.500a3.500 3.500 0 0 1 0 5M12.500 3.500a6.300 6.300 0 0 1 0 9",
  silent: "M2 6h2.5L8 3v10L4.500 10H2ZM11 6l4 4M15 6l-4 4",
};

/**
 * Makes a picture that says nothing to who cannot see it: words always stand beside it.
 *
 * @param {keyof typeof SHAPES} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}
