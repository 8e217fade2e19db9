// Sorts and filters the table of everyone. Without it the page is complete, and ordered by name.
const table = document.querySelector("#everyone table");
const body = table.tBodies[0];
const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();

for (const button of table.tHead.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down === 1 ? "ascending" : "descending");
    const order = new Intl.Collator(undefined, { numeric: true }).compare;
    const rows = [...body.rows];
    rows.sort((a, b) => down * order(value(a, head.cellIndex), value(b, head.cellIndex)));
    body.append(...rows);
  });
}

const filter = document.querySelector("#filter");
filter.closest("label").hidden = false;
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
