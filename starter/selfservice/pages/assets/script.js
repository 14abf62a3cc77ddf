// What script adds: local times, progress without reloading, and one press of a button.
// Every page works without it.
"use strict";

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "medium" });

// Times are rendered in UTC; people read them in their own zone, and see UTC beside it.
function localize(part) {
  for (const time of part.querySelectorAll("time[data-exact]")) {
    time.title = time.textContent;
    time.textContent = local.format(new Date(time.dateTime));
  }
}

localize(document);

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}

// A page that comes back from the browser's memory is as it was, its forms too.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

const part = document.querySelector("[data-events]");
if (part) {
  const line = document.getElementById("line");
  const source = new EventSource(part.dataset.events);
  source.addEventListener("progress", (event) => {
    part.innerHTML = event.data;
    localize(part);
  });
  source.addEventListener("line", (event) => {
    if (line.textContent !== event.data) line.textContent = event.data;
  });
  source.addEventListener("over", () => {
    source.close();
    location.reload();
  });
  // While the server sends what changes, there is no need to look again.
  const look = document.querySelector("[data-without-script]");
  source.addEventListener("open", () => {
    if (look) look.hidden = true;
  });
  source.addEventListener("error", () => {
    if (look) look.hidden = false;
  });
}
