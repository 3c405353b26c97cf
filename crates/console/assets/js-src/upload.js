// Sends a file as the body of a request, with its progress: a form would pack it into a multipart body, which the server does not read.
// The form names the URL (data-upload) and its texts; the page is loaded anew when the file was taken.

for (const form of document.querySelectorAll("form[data-upload]")) {
  const [input, button, bar] = ["input[type=file]", "button", "progress"].map((part) => form.querySelector(part));
  const status = form.querySelector("[role=status]");

  const failed = (reason) => {
    button.disabled = false;
    bar.hidden = true;
    status.textContent = `${form.dataset.failed} ${reason}`;
    status.className = "bad";
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const file = input.files[0];
    if (!file) {
      return;
    }
    const request = new XMLHttpRequest();
    request.open("POST", `${form.dataset.upload}?name=${encodeURIComponent(file.name.slice(0, 200))}`);
    request.setRequestHeader("Content-Type", "application/x-tar");
    request.setRequestHeader("X-CSRF-Token", document.body.dataset.csrf);
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      bar.value = total ? loaded / total : 0;
    });
    request.upload.addEventListener("load", () => {
      bar.removeAttribute("value");
      status.textContent = form.dataset.testing;
    });
    request.addEventListener("load", () => {
      if (request.status === 200) {
        location.reload();
        return;
      }
      let reason = request.statusText;
      try {
        reason = JSON.parse(request.responseText).detail ?? reason;
      } catch {
        // A proxy's own page.
      }
      failed(reason);
    });
    request.addEventListener("error", () => failed(""));
    button.disabled = true;
    bar.hidden = false;
    bar.value = 0;
    status.className = "";
    status.textContent = form.dataset.uploading;
    request.send(file);
  });
}
