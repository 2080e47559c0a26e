// Keeps a payment page up to date: the live part comes from the server, as HTML that it escaped.
// Without this script the page says the same, as it was when it was loaded.
"use strict";
(() => {
  const body = document.body;
  const base = body.dataset.order;
  const query = "?lang=" + body.dataset.language;
  const POLL_MS = Number(body.dataset.poll) * 1000;
  const SOON_MS = 1000;
  const SLOW_MS = 30000;
  const SILENCE_MS = 45000;
  const PARTS = ["status", "notes", "pay", "end"];
  const byId = (id) => document.getElementById(id);

  // The deadline is the server's: what this device's clock shows does not matter.
  const started = performance.getEntriesByType("navigation")[0];
  const ahead = performance.now() - (started ? started.responseStart : 0);
  const clockIsBehind = Number(body.dataset.now) + ahead - Date.now();
  const now = () => Date.now() + clockIsBehind;

  let version = body.dataset.version;
  let final = "final" in body.dataset;
  let told = body.dataset.told;
  let failures = 0;
  const shown = {};
  for (const id of PARTS) shown[id] = byId(id).outerHTML;

  // --- what is shown ---

  function announce(text) {
    byId("announcement").textContent = text.trim();
  }

  function update(part) {
    if (part.version === version) return;
    version = part.version;
    final = part.final;
    const fresh = new DOMParser().parseFromString(part.html, "text/html");
    byId("live").dataset.phase = fresh.getElementById("live").dataset.phase;
    const focused = byId("live").contains(document.activeElement) && document.activeElement;
    for (const id of PARTS) {
      const next = fresh.getElementById(id);
      // What has not changed stays, with focus and selection.
      if (next.outerHTML === shown[id]) continue;
      shown[id] = next.outerHTML;
      byId(id).replaceWith(document.adoptNode(next));
      if (id === "end") stopRedirect();
    }
    const title = document.title.indexOf(" – ");
    document.title = part.headline + (title < 0 ? "" : document.title.slice(title));
    wake();
    // Who was in what is gone now goes on at what is said instead.
    if (focused && !focused.isConnected) (byId(focused.id) || byId("headline")).focus();
    if (part.announcement !== told) announce((told = part.announcement) + " " + going());
  }

  // What needs this script is hidden until it runs.
  function wake() {
    for (const button of document.querySelectorAll("button.copy")) button.hidden = false;
    for (const time of document.querySelectorAll("time")) {
      const format = { dateStyle: "long", timeStyle: "short", numberingSystem: "latn" };
      const at = new Date(time.dateTime);
      time.textContent = new Intl.DateTimeFormat(body.dataset.language, format).format(at);
    }
    tick();
    startRedirect();
  }

  // --- the time that is left ---

  let askedAtEnd = "";

  function tick() {
    const clock = byId("countdown");
    if (!clock) return;
    const left = Math.max(0, Math.ceil((Number(clock.dataset.deadline) - now()) / 1000));
    const two = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(left / 3600);
    const minutes = Math.floor(left / 60) % 60;
    clock.textContent = (hours ? hours + ":" + two(minutes) : minutes) + ":" + two(left % 60);
    byId("left").hidden = false;
    if (left === 0 && askedAtEnd !== clock.dataset.deadline) {
      askedAtEnd = clock.dataset.deadline;
      setTimeout(poll, 1000);
    }
  }

  // --- back to the shop ---

  let secondsLeft = 0;
  let stayed = false;

  function startRedirect() {
    const line = byId("redirect");
    if (!line || stayed || secondsLeft) return;
    secondsLeft = Number(body.dataset.redirect);
    line.querySelector("bdi").textContent = secondsLeft;
    line.hidden = false;
  }

  // What a screen reader has to say of it, once.
  function going() {
    return secondsLeft ? byId("going").textContent : "";
  }

  function stopRedirect() {
    secondsLeft = 0;
  }

  function redirectTick() {
    const line = byId("redirect");
    if (!line || !secondsLeft) return;
    secondsLeft -= 1;
    line.querySelector("bdi").textContent = secondsLeft;
    // Not to come back here from the shop, and be led away again.
    if (!secondsLeft) location.replace(line.dataset.to);
  }

  setInterval(() => { tick(); redirectTick(); }, 1000);

  // --- buttons ---

  function select(element) {
    const selection = getSelection();
    selection.removeAllRanges();
    const range = document.createRange();
    range.selectNodeContents(element);
    selection.addRange(range);
  }

  async function copy(text, element) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Over plain HTTP, or where it is not allowed, there is the older way.
    }
    const box = document.createElement("textarea");
    box.value = text;
    box.className = "unseen";
    document.body.append(box);
    box.select();
    let done = false;
    try { done = document.execCommand("copy"); } catch { done = false; }
    box.remove();
    if (!done) select(element);
    return done;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "stay") {
      stayed = true;
      stopRedirect();
      byId("back").focus();
      byId("redirect").hidden = true;
    } else if (button.dataset.copy !== undefined) {
      const done = await copy(button.dataset.copy, byId(button.dataset.from));
      button.focus();
      announce(done ? button.dataset.said : button.dataset.failed);
      if (!done) return;
      const label = button.textContent;
      if (label === button.dataset.done) return;
      button.textContent = button.dataset.done;
      setTimeout(() => { button.textContent = label; }, 2000);
    }
  });

  // --- news: a stream, and polling where there is none ---

  let source = null;
  let heardAt = 0;
  let timer = 0;
  let turn = 0;

  function online(yes) {
    failures = yes ? 0 : failures + 1;
    const line = byId("offline");
    if (line.hidden && failures > 1) announce(line.textContent);
    line.hidden = failures < 2;
  }

  async function poll() {
    clearTimeout(timer);
    timer = 0;
    const mine = ++turn;
    try {
      const answer = await fetch(base + "/status" + query, {
        cache: "no-store",
        headers: { "If-None-Match": 'W/"' + version + '"' },
      });
      const part = answer.status === 200 ? await answer.json() : null;
      // What was asked for or heard since is newer.
      if (part && mine === turn) update(part);
      online(answer.ok || answer.status === 304);
    } catch {
      online(false);
    }
    if (final) close();
    if (!source || source.readyState !== EventSource.OPEN || final) later();
  }

  // After the end only a surprise can come: money that was late, or that is taken back.
  function later(soon = false) {
    const wait = soon ? SOON_MS : final || failures > 5 ? SLOW_MS : POLL_MS;
    if (!timer) timer = setTimeout(poll, wait);
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  function heard() {
    heardAt = Date.now();
    clearTimeout(timer);
    timer = 0;
    online(true);
  }

  function listen() {
    close();
    if (!("EventSource" in window) || final) { later(); return; }
    heardAt = Date.now();
    source = new EventSource(base + "/live" + query);
    source.onopen = heard;
    source.addEventListener("beat", heard);
    source.onmessage = (event) => {
      heard();
      turn += 1;
      update(JSON.parse(event.data));
      if (final) { close(); later(); }
    };
    source.onerror = () => later(failures === 0);
  }

  // A stream that says nothing is dead, whatever the browser believes; a closed one is tried again.
  setInterval(() => {
    if (!final && (!source || source.readyState === 2 || Date.now() - heardAt > SILENCE_MS)) listen();
  }, SLOW_MS);

  // The browser knows of a cable that is pulled long before a stream falls silent.
  addEventListener("offline", () => { online(false); poll(); });
  addEventListener("online", () => { poll(); listen(); });

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") poll();
  });

  wake();
  announce(going());
  listen();
})();
