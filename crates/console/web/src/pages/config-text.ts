// The text editor of a configuration file: line numbers that follow the text, and faults that lead to their lines. Without it, the numbers
// are those of the text as it was loaded, and the form works.

/** Lines that the field shows at most, as the server has it; a longer text is scrolled. */
const MAX_ROWS = 3000;

/** The number of lines in a text. */
export function lineCount(text: string): number {
  return text.split("\n").length;
}

/** Start and end of a line, counted from 1; of one that is not there, the end of the text. */
export function lineRange(text: string, line: number): readonly [number, number] {
  let start = 0;
  for (let n = 1; n < line; n += 1) {
    const end = text.indexOf("\n", start);
    if (end < 0) return [text.length, text.length];
    start = end + 1;
  }
  const end = text.indexOf("\n", start);
  return [start, end < 0 ? text.length : end];
}

export function enhance(page: Document): void {
  const field = page.querySelector<HTMLTextAreaElement>(".numbered textarea");
  const numbers = page.querySelector<HTMLElement>(".numbered .numbers");
  if (!field || !numbers) return;
  let shown = 0;
  const update = () => {
    const count = lineCount(field.value);
    if (count === shown) return;
    shown = count;
    field.rows = Math.min(count + 1, MAX_ROWS);
    numbers.textContent = Array.from({ length: count }, (_, index) => `${index + 1}\n`).join("");
  };
  field.addEventListener("input", update);
  update();
  let isChanged = false;
  field.addEventListener("input", () => {
    isChanged = true;
  });
  field.form?.addEventListener("submit", () => {
    isChanged = false;
  });
  window.addEventListener("beforeunload", (event) => {
    if (isChanged) event.preventDefault();
  });
  page.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-line]") : null;
    if (!link) return;
    event.preventDefault();
    const [start, end] = lineRange(field.value, Number(link.dataset["line"]));
    field.focus({ preventScroll: true });
    field.setSelectionRange(start, end);
    const line = lineCount(field.value.slice(0, start)) - 1;
    const height = field.clientHeight / Math.max(field.rows, 1);
    window.scrollTo({ top: field.getBoundingClientRect().top + window.scrollY + line * height - window.innerHeight / 3 });
  });
}
