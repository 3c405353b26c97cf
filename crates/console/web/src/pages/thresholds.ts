// The page of thresholds: a slider beside each number field. The number field is what is sent; without this script it is all there is.

/** Couples a slider and its number field, in both directions. */
function couple(slider: HTMLInputElement): void {
  const field = document.getElementById(slider.dataset.of ?? "");
  if (!(field instanceof HTMLInputElement)) return;
  slider.hidden = false;
  const mark = (): void => {
    field.classList.toggle("changed", Number(field.value) !== Number(field.dataset.inForce));
  };
  // The slider's own change event reaches the form after this, which then asks for an answer.
  slider.addEventListener("input", () => {
    field.value = slider.value;
    mark();
  });
  field.addEventListener("input", () => {
    if (field.value !== "") slider.value = field.value;
    mark();
  });
  mark();
}

/** Couples all sliders of the page. */
export function start(): void {
  for (const slider of document.querySelectorAll("input.slider")) {
    if (slider instanceof HTMLInputElement) couple(slider);
  }
}
