// Makes the pages comfortable. Each works without this script, too, passkeys excepted.
import htmx from "htmx.org";

const $ = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const say = (text) => { $("#announce").textContent = text; };

document.documentElement.classList.add("scripted");

// ---- What is shown relative to now, in the words of the server -------------------------------------------------------------
const plural = (n, noun) => (n === 1 ? `1 ${noun}` : `${n} ${noun}s`);
function ago(date) {
  const seconds = (Date.now() - date) / 1000, d = Math.abs(seconds);
  let text;
  if (d < 45) return "just now";
  else if (d < 90 * 60) text = plural(Math.round(d / 60), "minute");
  else if (d < 36 * 3600) text = plural(Math.round(d / 3600), "hour");
  else if (d < 60 * 86400) text = plural(Math.round(d / 86400), "day");
  else return null;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}
function refreshTimes(from = document) {
  for (const time of all("time[data-relative]", from)) {
    const text = ago(new Date(time.dateTime));
    if (text && time.textContent !== text) time.textContent = text;
  }
}
setInterval(refreshTimes, 20000);

// ---- What needs a script is shown only with one ------------------------------------------------------------------------------
function prepare(from = document) {
  for (const button of all("[data-copy][hidden]", from)) button.hidden = !navigator.clipboard;
  refreshTimes(from);
}
prepare();
htmx.onLoad((element) => prepare(element.parentElement ?? document));

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copy);
    copy.classList.add("copied");
    setTimeout(() => copy.classList.remove("copied"), 1500);
    say("Copied");
  }
  if (event.target.closest("[data-print]")) print();
  if (event.target.closest("[data-closes-dialog]") && $("#dialog").open) {
    event.preventDefault();
    $("#dialog").close();
  }
  for (const menu of all("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = $("details.menu[open]");
  if (event.key === "Escape" && menu) {
    menu.open = false;
    $("summary", menu).focus();
  }
});

// ---- Colours ---------------------------------------------------------------------------------------------------------------
document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-theme-switch]");
  if (!form || !event.submitter) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  document.documentElement.dataset.theme = event.submitter.value;
  for (const button of all("button[name=theme]", form)) button.setAttribute("aria-pressed", String(button === event.submitter));
  document.dispatchEvent(new Event("countersign:theme"));
  fetch(form.action, { method: "POST", body, redirect: "manual" });
});

// ---- A second click on a button that was pressed does nothing ------------------------------------------------------------------
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post" || form.matches("[data-upload], [data-passkey]")) return;
  setTimeout(() => { for (const button of all("button[type=submit]", form)) button.disabled = true; });
});
addEventListener("pageshow", (event) => {
  if (!event.persisted) return; // the page as it was left, by the back button
  for (const button of all("button[type=submit]:disabled")) button.disabled = false;
  follow();
});

// ---- Dialogs: an action's page, shown over the request ---------------------------------------------------------------------------
let opener = {}; // the link that opened the dialog
document.addEventListener("htmx:afterSwap", (event) => {
  const { target, requestConfig } = event.detail;
  if (target.id !== "dialog-content") return;
  if (requestConfig.elt.id) opener = { id: requestConfig.elt.id, href: requestConfig.elt.href };
  const dialog = $("#dialog");
  dialog.removeAttribute("aria-label");
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.showModal();
  ($("input[type=radio]:checked, input[type=radio], textarea, .btn", dialog) ?? dialog).focus();
});
$("#dialog").addEventListener("click", (event) => { if (event.target === event.currentTarget) event.currentTarget.close(); });
$("#dialog").addEventListener("close", () => {
  (document.getElementById(opener.id) ?? $("#content")).focus({ preventScroll: true }); // what had the focus may have been replaced
});

// What cannot be shown in its place is shown as a page of its own.
for (const kind of ["htmx:responseError", "htmx:sendError"]) {
  document.addEventListener(kind, ({ detail }) => { if (detail.elt.href) location.assign(detail.elt.href); });
}

// Answers with a problem are pages as well: show them.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, target } = event.detail;
  if (xhr.status < 400) return;
  if (target.id === "content") {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  } else if (xhr.status === 401) {
    location.reload();
  }
});
document.addEventListener("htmx:afterSettle", (event) => {
  const notice = $(".notice.is-bad, [aria-invalid=true]", event.detail.elt);
  if (event.detail.elt.id === "content" && notice) {
    notice.setAttribute("tabindex", "-1");
    notice.focus();
    notice.scrollIntoView({ block: "center" });
  }
});

// ---- A signing request follows its state -----------------------------------------------------------------------------------------
// Only while it is seen: an abandoned tab must not keep the session alive. And not between the press and the release of a
// button: the click would hit nothing.
let stream, pressed = false, missed = false;
function release() {
  pressed = false;
  if (missed) setTimeout(refreshRequest); // after the click
  missed = false;
}
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const kind of ["pointerup", "pointercancel", "dragend"]) addEventListener(kind, release, true);
addEventListener("blur", release); // of the window
let opened = []; // deliveries whose attempts are shown
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const { id } = detail.target;
  if (id === "deliveries") opened = all("details", detail.target).map((d) => [d.id, d.open]);
  if (!pressed || id !== "live" && id !== "deliveries") return;
  detail.shouldSwap = false; // deliveries are looked at again anyway
  missed = id === "live";
});
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  if (detail.target.id === "deliveries") restore(opened);
  if (detail.target.id === "results" && !$("#search-older")) say(`Signing requests listed: ${all("#results tbody tr").length}`);
});
function restore(states) {
  for (const [id, open] of states) {
    const details = document.getElementById(id);
    if (details) details.open = open || details.open && id.startsWith("check-");
  }
}
let heard = 0, again; // when the stream last opened, and the timer that opens it again
function follow() {
  clearTimeout(again);
  stream?.close();
  stream = undefined;
  const address = $("#live")?.dataset.events;
  if (!address || document.hidden) return;
  heard = Date.now();
  stream = new EventSource(address);
  stream.addEventListener("open", () => { heard = Date.now(); });
  stream.addEventListener("changed", refreshRequest);
  stream.addEventListener("final", () => stream?.close());
  stream.addEventListener("error", async () => {
    if (stream?.readyState !== EventSource.CLOSED) return; // the browser itself tries again
    again = setTimeout(follow, 3000); // the server, or a proxy before it, is not ready
    if (await refused(location.href) && !$("#dialog").open) location.reload();
  });
}
document.addEventListener("visibilitychange", follow);
// The server ends a stream before long. One that stays silent was lost while the computer slept.
setInterval(() => { if (stream && Date.now() - heard > 45000) follow(); }, 5000);
// Reports whether the server no longer shows a page to this user; false when there is no answer.
async function refused(address) {
  try {
    const { type, status } = await fetch(address, { method: "HEAD", redirect: "manual" });
    return type === "opaqueredirect" || status >= 400 && status < 500;
  } catch {
    return false;
  }
}
async function refreshRequest() {
  const before = $("#live").dataset.status, focused = document.activeElement?.closest("#live") && document.activeElement;
  const open = all("#live details[id]").map((d) => [d.id, d.open]);
  await htmx.ajax("GET", location.pathname, { target: "#live", select: "#live", swap: "outerHTML" });
  if (missed) return;
  restore(open);
  if (focused && !focused.isConnected) {
    const same = all(`#live ${focused.tagName}`).find((e) => (focused.id ? e.id === focused.id : e.outerHTML === focused.outerHTML));
    (same ?? $("#content")).focus({ preventScroll: true });
  }
  const after = $("#live").dataset.status;
  if (after !== before) say(`Status: ${after}`);
  // What the dialog asks is no longer the question: it says so.
  if ($("#dialog").open && !document.getElementById(opener.id)) htmx.ajax("GET", opener.href, { target: "#dialog-content" });
  follow();
}
follow();

// ---- Upload --------------------------------------------------------------------------------------------------------------------------
const bytes = (n) => {
  if (n < 1000) return plural(n, "byte");
  let i = 0;
  for (n /= 1000; n >= 999.95 && i < 5; i++) n /= 1000;
  return `${n.toFixed(1)} ${"kMGTPE"[i]}B`;
};
function showChosen(form) {
  const input = $("#artifact", form), list = $("[data-chosen]", form), files = [...input.files];
  list.replaceChildren(...files.slice(0, 20).map((file) => {
    const item = document.createElement("li");
    item.textContent = `${file.name}, ${bytes(file.size)}`;
    return item;
  }));
  if (files.length > 20) list.append(Object.assign(document.createElement("li"), { textContent: `and ${files.length - 20} more` }));
  $("[data-bundle]", form).value = files.length > 1 ? "on" : "";
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const problem = total > Number(form.dataset.limit) ? `The server takes at most ${bytes(Number(form.dataset.limit))}.` : "";
  input.setCustomValidity(problem);
  $("[data-upload-problem]", form).textContent = problem;
}
document.addEventListener("change", (event) => {
  if (event.target.id === "artifact") showChosen(event.target.form);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const form = $("[data-upload]"), area = form && $("[data-drop]", form);
    if (!area || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // a file dropped beside the area must not replace the page
    area.classList.toggle("over", kind === "dragover" && area.contains(event.target));
    if (kind !== "drop" || !area.contains(event.target)) return;
    const input = $("#artifact", form), taken = new DataTransfer();
    const files = [...event.dataTransfer.files];
    for (const file of input.multiple ? files : files.slice(0, 1)) taken.items.add(file);
    input.files = taken.files;
    showChosen(form);
    if (files.length > 1 && !input.multiple) $("[data-upload-problem]", form).textContent = "Only one file is taken here; the first one was chosen.";
  });
}
document.addEventListener("htmx:afterSettle", () => {
  const form = $("[data-upload]");
  if (!form) return;
  $("#artifact", form).multiple = $("#submit-details", form).dataset.multiple === "true";
});
const uploads = (event) => event.detail.elt?.matches?.("[data-upload]") && event.detail.elt;
document.addEventListener("htmx:beforeSend", (event) => {
  const form = uploads(event);
  if (!form) return;
  $("[data-progress]", form).hidden = $("[data-abort]", form).hidden = false;
  $("progress", form).value = 0;
  $("[data-progress-text]", form).textContent = $("[data-upload-problem]", form).textContent = "";
});
document.addEventListener("htmx:xhr:progress", (event) => {
  const form = uploads(event);
  if (!form || !event.detail.lengthComputable) return;
  const { loaded, total } = event.detail, percent = Math.floor((100 * loaded) / total);
  $("progress", form).value = percent;
  $("[data-progress-text]", form).textContent = loaded < total ? `${percent} % of ${bytes(total)}` : "Received; the server stores it…";
  $("[data-abort]", form).hidden = loaded === total; // too late to promise that nothing is submitted
});
for (const kind of ["htmx:sendError", "htmx:sendAbort", "htmx:timeout"]) {
  document.addEventListener(kind, async (event) => {
    const form = uploads(event);
    if (!form) return;
    $("[data-progress]", form).hidden = true;
    $("[data-upload-problem]", form).textContent = kind === "htmx:sendAbort" ? "Stopped: nothing was submitted." :
      "The connection broke off: nothing was submitted, unless your signing requests list it. Try again.";
    // The server does not read on when the session has ended, and browsers then miss its answer.
    if (kind === "htmx:sendError" && await refused(location.href)) {
      keepDraft();
      location.reload();
    }
  });
}
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-abort]")) htmx.trigger($("[data-upload]"), "htmx:abort");
});

// ---- What was typed comes back after the session had ended ----------------------------------------------------------------------------
// A form's fields are kept for this tab when it is sent, until a page shows that it was accepted or refused for another reason.
const draftKey = "countersign-draft";
const readDraft = () => JSON.parse(sessionStorage.getItem(draftKey) ?? "null");
const writeDraft = (draft) => sessionStorage.setItem(draftKey, JSON.stringify(draft));
const typed = (form) => [...form.elements].filter((e) => e.name && !e.matches("button, fieldset, [type=hidden], [type=password], [type=file], [autocomplete=off], [readonly]"));
const keepDraft = () => { const draft = readDraft(); if (draft) writeDraft({ ...draft, kept: true }); };
document.addEventListener("submit", ({ target: form }) => {
  if (form.method !== "post" || document.body.matches(".bare") || form.matches("[data-theme-switch]")) return;
  writeDraft({ action: new URL(form.action).pathname, fields: typed(form).map(({ name, value, checked }) => ({ name, value, checked })) });
}, true);
let returning; // fields that wait for those that depend on them
function fill(form, fields) {
  const inputs = typed(form);
  for (const { name, value, checked } of fields) {
    const same = inputs.filter((e) => e.name === name), choice = same.find((e) => e.matches("[type=radio], [type=checkbox]") && e.value === value);
    if (choice) choice.checked = checked;
    else if (same.length === 1 && !same[0].matches("[type=radio], [type=checkbox]")) same[0].value = value;
  }
}
function bringBack() {
  if ($("[data-refused]")) return keepDraft();
  const draft = readDraft();
  if (!draft || document.body.matches(".bare")) return;
  sessionStorage.removeItem(draftKey);
  const form = draft.kept && all("form[method=post]").find((f) => new URL(f.action).pathname === draft.action);
  if (!form) return;
  fill(form, draft.fields);
  if (form.matches("[data-upload]")) {
    returning = draft.fields;
    $("#policy", form).dispatchEvent(new Event("change", { bubbles: true }));
  }
}
document.addEventListener("DOMContentLoaded", bringBack); // after htmx knows the form
document.addEventListener("htmx:afterSettle", ({ detail }) => {
  if (detail.elt.id === "content") bringBack();
  if (detail.elt.id !== "submit-details" || !returning) return;
  fill($("[data-upload]"), returning);
  returning = undefined;
});

// ---- Passkeys ------------------------------------------------------------------------------------------------------------------------
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("[data-passkey]");
  if (!form || form.response.value) return;
  event.preventDefault();
  const problem = $("[data-passkey-problem]", form), button = $("button", form);
  problem.textContent = "";
  button.disabled = true;
  try {
    const answer = await fetch(form.dataset.begin, { method: "POST", headers: { "X-Form-Token": form.token.value } });
    const begun = answer.headers.get("Content-Type")?.startsWith("application/json") ? await answer.json() : {};
    if (!begun.options) throw new Error(begun.problem ?? "The server did not begin: reload the page and try again.");
    const create = form.dataset.passkey === "create", options = begun.options.publicKey;
    const credential = create
      ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
      : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
    form.state.value = begun.state;
    form.response.value = JSON.stringify(credential.toJSON());
    form.submit();
  } catch (error) {
    problem.textContent = error.name === "NotAllowedError" ? "The passkey was not used: it was cancelled, or took too long."
      : error.name === "InvalidStateError" ? "This device has a passkey for this account already." : error.message;
    button.disabled = false;
  }
});
