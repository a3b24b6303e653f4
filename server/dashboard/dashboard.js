"use strict";
// Everything that is shown is set as text, never as markup: names, errors and
// logs are the clients'.
const POLL_MS = 1000;
let chosen = decodeURIComponent(location.hash.slice(1));

function cell(row, text, name) {
  const td = row.insertCell();
  td.textContent = text;
  if (name) td.className = name;
  return td;
}

function elapsed(seconds) {
  if (seconds < 60) return seconds.toFixed(1) + " s";
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? minutes + " min" : (minutes / 60).toFixed(1) + " h";
}

async function call(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(answer.status + " " + answer.statusText);
  return answer.json();
}

function show(list) {
  const body = document.getElementById("jobs");
  body.replaceChildren();
  for (const job of list.jobs.slice().reverse()) {
    const row = body.insertRow();
    if (job.id === chosen) row.className = "chosen";
    cell(row, job.id);
    cell(row, job.name);
    cell(row, job.state, job.state);
    cell(row, new Date(job.started).toLocaleTimeString());
    cell(row, elapsed(job.elapsed_s), "number");
    cell(row, job.rows.toLocaleString(), "number");
    const actions = cell(row, "");
    if (job.state === "running") {
      const button = document.createElement("button");
      button.textContent = "Cancel";
      button.addEventListener("click", (event) => {
        event.stopPropagation();
        call("api/jobs/" + encodeURIComponent(job.id) + "/cancel", { method: "POST" }).catch(failed);
      });
      actions.append(button);
    }
    row.addEventListener("click", () => { chosen = job.id; location.hash = encodeURIComponent(job.id); refresh(); });
  }
  const running = list.jobs.filter((job) => job.state === "running").length;
  document.getElementById("about").textContent =
    list.version + (list.draining ? " · draining" : "") + " · " + running + " running · " + list.sessions + " connected";
}

// split says where the time of Python functions has gone.
function split(o) {
  const parts = [["python", o.python_s], ["conversion", o.conversion_s], ["transfer", o.transfer_s],
    ["load", o.load_s], ["queue", o.queue_s]].filter((part) => part[1] > 0);
  return parts.map((part) => part[0] + " " + part[1].toFixed(2) + " s").join(", ");
}

function detail(job) {
  document.getElementById("job").hidden = false;
  document.getElementById("title").textContent = job.id + " " + job.name;
  const error = document.getElementById("error");
  error.hidden = !job.error_text;
  error.textContent = job.error_text || "";
  const body = document.getElementById("operators");
  body.replaceChildren();
  for (const o of job.operators || []) {
    const row = body.insertRow();
    cell(row, o.name);
    cell(row, o.state, o.state);
    cell(row, o.rows_in.toLocaleString(), "number");
    cell(row, o.rows_out.toLocaleString(), "number");
    cell(row, [o.note, split(o)].filter(Boolean).join("; "));
  }
  document.getElementById("log").textContent =
    (job.logs || []).map((line) => "[" + (line.function || line.level) + "] " + line.text).join("\n");
}

function staff(list) {
  const body = document.getElementById("workers");
  body.replaceChildren();
  for (const worker of list.workers) {
    const row = body.insertRow();
    cell(row, worker.id);
    cell(row, worker.pid, "number");
    cell(row, worker.environment);
    cell(row, worker.busy ? "busy" : "idle");
    cell(row, worker.sandbox);
    cell(row, list.lane);
  }
}

function failed(error) {
  document.getElementById("about").textContent = "not connected: " + error.message;
}

async function refresh() {
  try {
    show(await call("api/jobs"));
    staff(await call("api/workers"));
    if (chosen) detail(await call("api/jobs/" + encodeURIComponent(chosen)));
  } catch (error) {
    failed(error);
  }
}

async function poll() {
  if (!document.hidden) await refresh();
  setTimeout(poll, POLL_MS);
}
poll();
