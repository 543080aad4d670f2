"use strict";
document.querySelectorAll("video").forEach(function (film) {
  var still = window.matchMedia && window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  function go() { var going = film.play(); if (going) { going.catch(function () {}); } }
  film.addEventListener("click", function () { if (film.paused) { go(); } else { film.pause(); } });
  if (!still && "IntersectionObserver" in window) {
    new IntersectionObserver(function (seen) {
      seen.forEach(function (one) { if (one.isIntersecting) { go(); } else { film.pause(); } });
    }).observe(film);
  }
});
// One selector per explorer: `lit` is "" or what is lit, as "m3" for mode 3 and "z2" for command 2.
document.querySelectorAll(".explorer").forEach(function (box) {
  var said = box.querySelector(".said");
  var words = JSON.parse(box.querySelector("script.words").textContent);
  var paths = Array.prototype.slice.call(box.querySelectorAll(".paths path"));
  var buttons = Array.prototype.slice.call(box.querySelectorAll("button[data-lit]"));
  var lists = Array.prototype.slice.call(box.querySelectorAll("select.chooser"));
  var lit = "";
  function light(name) {
    lit = name === lit ? "" : name;
    box.classList.toggle("chosen", lit !== "");
    paths.forEach(function (path) { path.classList.toggle("lit", lit !== "" && path.classList.contains(lit)); });
    buttons.forEach(function (button) {
      button.setAttribute("aria-pressed", String(button.dataset.lit === lit && lit !== ""));
    });
    lists.forEach(function (list) {
      var there = Array.prototype.some.call(list.options, function (option) { return option.value === lit; });
      list.value = there ? lit : "";
    });
    box.querySelectorAll(".film").forEach(function (film) {
      film.classList.toggle("lit", lit !== "" && film.classList.contains(lit));
    });
    box.querySelectorAll("table.map tbody tr").forEach(function (row) {
      row.classList.toggle("dull", lit[0] === "z" && row.dataset.z !== lit);
    });
    said.textContent = lit === "" ? words[""] : words[lit] || "";
    if (lit !== "") { colour(lit[0] === "z" ? "z" : "mode"); }
  }
  function colour(by) {
    box.classList.toggle("by-z", by === "z");
    box.querySelectorAll("button[data-by]").forEach(function (button) {
      button.setAttribute("aria-pressed", String(button.dataset.by === by));
    });
  }
  buttons.forEach(function (button) { button.addEventListener("click", function () { light(button.dataset.lit); }); });
  box.querySelectorAll("button[data-by]").forEach(function (button) {
    button.addEventListener("click", function () { if (lit !== "") { light(lit); } colour(button.dataset.by); });
  });
  lists.forEach(function (list) {
    list.addEventListener("change", function () { light(list.value || lit); });
  });
  paths.forEach(function (path) {
    path.addEventListener("click", function () {
      var kind = box.classList.contains("by-z") ? "z" : "m";
      path.classList.forEach(function (name) { if (name[0] === kind && /^[mz]\d+$/.test(name)) { light(name); } });
    });
  });
});
