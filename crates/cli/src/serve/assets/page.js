// Makes pages nicer, and no more: the viewer's own time zone beside UTC, and new records as they come.
"use strict";

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
const isUtc = new Date().getTimezoneOffset() === 0;

function addZones(root) {
  if (isUtc) return;
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.valueOf()) || time.querySelector(".local")) continue;
    const own = document.createElement("span");
    own.className = "local";
    own.textContent = local.format(at) + " here";
    time.append(own);
  }
}

// The server escapes all that it sends; no other text becomes HTML.
const policy = window.trustedTypes
  ? window.trustedTypes.createPolicy("rows", { createHTML: (text) => text })
  : { createHTML: (text) => text };

function follow(rows) {
  const button = document.getElementById("pause");
  const state = document.getElementById("live");
  let source = null;
  let seen = rows.dataset.live;
  const begin = () => {
    source = new EventSource(seen);
    source.addEventListener("rows", (event) => {
      const part = document.createElement("template");
      part.innerHTML = policy.createHTML(event.data);
      for (const row of part.content.querySelectorAll("tr")) row.className = "new";
      addZones(part.content);
      rows.prepend(part.content);
      while (rows.rows.length > 500) rows.lastElementChild.remove();
    });
    source.addEventListener("end", (event) => {
      state.textContent = event.data;
      source.close();
    });
    source.onopen = () => { state.textContent = "New records appear here."; };
    source.onerror = () => {
      state.textContent = source.readyState === EventSource.CLOSED ? "New records are not shown here now." : "Not connected; trying again.";
    };
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (source) {
      source.close();
      source = null;
      state.textContent = "Paused.";
      button.textContent = "Go on";
    } else {
      begin();
      button.textContent = "Pause";
    }
  });
  begin();
}

addZones(document);
const rows = document.querySelector("tbody[data-live]");
if (rows) follow(rows);
