// What script adds: local times, progress without reloading, and one press of a button.
// Every page works without it.
"use strict";

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "medium" });

const localTime = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

// Times are rendered in UTC; people read them in their own zone, and see UTC beside it.
// What is to come today needs no date.
function localize(part) {
  for (const time of part.querySelectorAll("time[data-exact]")) {
    time.title = time.textContent;
    const at = new Date(time.dateTime);
    const today = "soon" in time.dataset && at.toDateString() === new Date().toDateString();
    time.textContent = (today ? localTime : local).format(at);
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
    // Outside of the part, so that it keeps the focus: there while Cancel counts.
    const cancel = document.getElementById("cancel");
    if (cancel) cancel.hidden = !part.querySelector("[data-can-cancel]");
  });
  source.addEventListener("heading", (event) => {
    const heading = document.getElementById("heading");
    document.title = document.title.replace(heading.textContent, event.data);
    heading.textContent = event.data;
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

// A session or a form that is about to end asks before. Other pages may have used the
// session meanwhile, so the server is asked how long it lasts; to ask does not use it.
const ends = document.getElementById("ends");
if (ends) {
  const now = () => Date.now();
  const after = (seconds) => now() + 1000 * Number(seconds);
  const formEnds = ends.dataset.form ? after(ends.dataset.form) : Infinity;
  let sessionEnds = after(ends.dataset.session);
  // Two minutes, or half of what there is.
  const ahead = Math.min(120000, (Math.min(formEnds, sessionEnds) - now()) / 2);
  let asked = false;
  let busy = false;

  async function askServer() {
    const answer = await fetch("/session/left").catch(() => null);
    if (answer && answer.ok) sessionEnds = after(await answer.text());
  }

  async function look() {
    const soon = () => now() >= Math.min(formEnds, sessionEnds) - ahead;
    if (busy || !soon()) return;
    busy = true;
    if (now() >= sessionEnds - ahead) await askServer();
    busy = false;
    if (now() >= sessionEnds) {
      location.replace("/sign-in?ended=time&then=" + encodeURIComponent(ends.dataset.here));
    } else if (now() >= formEnds) {
      clearInterval(watch);
      document.getElementById("ends-soon").hidden = true;
      document.getElementById("ends-now").hidden = false;
      ends.setAttribute("aria-label", "This page is too old now");
      ends.removeAttribute("aria-labelledby");
      if (!ends.open) ends.showModal();
    } else if (!soon()) {
      asked = false;
      ends.close();
    } else if (!asked) {
      asked = true;
      ends.showModal();
    }
  }
  const watch = setInterval(look, 1000);
  document.getElementById("ends-close").addEventListener("click", () => ends.close());
}
