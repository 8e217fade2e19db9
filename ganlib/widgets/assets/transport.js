// Two rows of piles to drag. A pull goes to the kernel as [row, place, height, number]; the kernel keeps each
// row's total, sends both rows back and then the number. Until that comes only the latest pull is kept, so that
// a slow kernel is never behind by more than one picture.
const SVG = "http://www.w3.org/2000/svg";
const ROWS = [
  { name: "p", label: "P: what there is", colour: "#0072B2" },
  { name: "q", label: "Q: what is wanted", colour: "#D55E00" },
];
const SLOT = 70, TALL = 130, TOP = 24, GAP = 46, LEFT = 10;

function add(parent, tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

function render({ model, el }) {
  const places = model.get("p").length;
  const total = model.get("p").reduce((a, b) => a + b, 0);
  const width = 2 * LEFT + SLOT * places, height = 2 * (TALL + GAP) + TOP;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.cssText = `width: 100%; max-width: ${width}px; touch-action: none; font: 12px sans-serif`;
  el.appendChild(svg);

  let sent = model.get("answered"), waiting = false, next = null;
  const pull = (row, place, mass) => {
    next = [row, place, Math.min(Math.max(mass, 0), total)];
    show(...next); // the others of the row follow when the kernel has answered
    if (!waiting) send();
  };
  const send = () => {
    if (!next) return;
    waiting = true;
    model.set("pull", [...next, ++sent]);
    model.save_changes();
    next = null;
  };

  const bars = ROWS.map((row, r) => {
    const floor = TOP + (r + 1) * TALL + r * GAP;
    add(svg, "text", { x: LEFT, y: floor - TALL - 8, fill: row.colour, "font-weight": "bold" }, row.label);
    add(svg, "line", { x1: LEFT, x2: width - LEFT, y1: floor, y2: floor, stroke: "gray" });
    return model.get(row.name).map((_, i) => {
      const x = LEFT + i * SLOT;
      add(svg, "text", { x: x + SLOT / 2, y: floor + 14, "text-anchor": "middle", fill: "gray" }, i + 1);
      const bar = add(svg, "rect", { x: x + 8, width: SLOT - 16, fill: row.colour });
      const amount = add(svg, "text", { x: x + SLOT / 2, "text-anchor": "middle", fill: "currentColor" });
      const slot = add(svg, "rect", {
        x, y: floor - TALL - 4, width: SLOT, height: TALL + 8, fill: "transparent", cursor: "ns-resize",
        tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": total,
        "aria-label": `${row.label}, place ${i + 1}`, "data-pile": `${row.name}${i + 1}`,
      });
      const grab = (event) => {
        const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
        pull(r, i, ((floor - point.y) / TALL) * total);
      };
      slot.addEventListener("pointerdown", (event) => { slot.setPointerCapture(event.pointerId); grab(event); });
      slot.addEventListener("pointermove", (event) => slot.hasPointerCapture(event.pointerId) && grab(event));
      slot.addEventListener("keydown", (event) => {
        const step = { ArrowUp: 0.5, ArrowRight: 0.5, ArrowDown: -0.5, ArrowLeft: -0.5 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        event.stopPropagation(); // or the notebook would move to another cell
        pull(r, i, model.get(row.name)[i] + step);
      });
      return { bar, amount, slot, floor };
    });
  });

  const show = (row, place, mass) => {
    const { bar, amount, slot, floor } = bars[row][place];
    const size = (mass / total) * TALL;
    bar.setAttribute("y", floor - size);
    bar.setAttribute("height", size);
    amount.setAttribute("y", floor - size - 4);
    amount.textContent = mass.toFixed(1);
    slot.setAttribute("aria-valuenow", mass.toFixed(1));
  };
  const draw = () => {
    ROWS.forEach((row, r) => model.get(row.name).forEach((mass, i) => show(r, i, mass)));
    if (next) show(...next);
  };
  const answered = () => { waiting = false; send(); };
  model.on("change:p change:q", draw);
  model.on("change:answered", answered);
  draw();
  return () => { model.off("change:p change:q", draw); model.off("change:answered", answered); };
}

export default { render };
