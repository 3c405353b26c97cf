// Keeps a page from being left with unsaved edits.

export class UnsavedGuard {
  private isLeaving = false;
  private isOn = false;

  constructor(
    private readonly element: HTMLElement,
    private readonly isDirty: () => boolean,
  ) {}

  /** To be called after every edit and save. A page with such a listener is not kept for the browser's back button, so it goes when it can. */
  update(): void {
    const isNeeded = this.isDirty() && this.element.isConnected;
    if (isNeeded === this.isOn) return;
    this.isOn = isNeeded;
    const change = isNeeded ? "addEventListener" : "removeEventListener";
    window[change]("beforeunload", this.hold);
    window[change]("submit", this.submitted);
  }

  private readonly hold = (event: Event): void => {
    if (this.isLeaving || !this.isDirty()) return;
    event.preventDefault();
    // Browsers of before 2023 ask for this instead.
    (event as BeforeUnloadEvent).returnValue = "";
  };

  /** A form that carries the value leaves with it; one that a script sends (its default was prevented) does not leave. */
  private readonly submitted = (event: Event): void => {
    this.isLeaving = !event.defaultPrevented && event.target instanceof Node && event.target.contains(this.element);
  };
}
