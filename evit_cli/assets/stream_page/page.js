"use strict";

const EVERY_MS = 1000;
const query = document.body.dataset.query;
const picture = document.getElementById("picture");

function say(id, text) {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text;
}

function spell(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function show(now) {
  const facts = [now.model, now.backend, now.precision, now.source];
  say("model", facts.filter(Boolean).join(" · "));
  mood(now.state);
  say("fps", `${now.fps.toFixed(1)} /s`);
  say("model_ms", `${now.model_ms.toFixed(1)} ms`);
  say("frames", String(now.frames));
  say("source_dropped", String(now.source_dropped));
  say("clients", `${now.clients.length} of ${now.most_clients}`);
  say("sent", `${now.sent} / ${now.dropped}`);
  say("uptime", spell(now.uptime_s));
  say("problem", now.problem);
  document.getElementById("problem").hidden = !now.problem;
}

function mood(state) {
  say("state", state);
  document.getElementById("state").className = state;
}

let away = false;

async function ask() {
  try {
    const answer = await fetch(`status.json${query}`);
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
    if (away) picture.src = `stream.mjpg${query || "?"}&again=${Date.now()}`;
    away = false;
  } catch {
    mood("not reachable");
    away = true;
  }
  setTimeout(ask, EVERY_MS);
}

picture.addEventListener("error", () => { away = true; });
ask();
