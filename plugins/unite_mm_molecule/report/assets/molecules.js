/* Molecules in the report: drawings from paths, 3D views by 3Dmol.js, a reconstruction laid over its input. */
(() => {
  "use strict";
  const {make} = uniteReport;
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = {"#000000": "var(--text)", "#0000FF": "var(--mol-n)", "#FF0000": "var(--mol-o)",
    "#33CCCC": "var(--mol-f)", "#FF9E8C": "var(--mol-mark)"};
  const LARGEST_TURNING = 200;
  const DEGREES_PER_SECOND = 20, GHOST = "#9aa3b2";
  const DARK = matchMedia("(prefers-color-scheme: dark)");
  // The canvas is opaque: not every browser hands a transparent picture of WebGL to the page.
  const surface = () => getComputedStyle(document.documentElement).getPropertyValue("--surface").trim();
  const spaces = new WeakMap();  // by the element that holds the large view of a gallery
  let hydrogens = true, spinning = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  function drawing(paths) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 240 180");
    svg.setAttribute("class", "mol-drawing");
    svg.setAttribute("aria-hidden", "true");
    for (const [outline, colour, width] of paths) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", outline);
      const paint = COLOURS[colour.toUpperCase()] || colour;
      path.style.fill = width ? "none" : paint;
      if (width) { path.style.stroke = paint; path.style.strokeWidth = width; path.style.strokeLinecap = "round"; }
      svg.append(path);
    }
    return svg;
  }

  function atoms(model) {
    const found = model.elements.map((elem, index) => ({elem, index, serial: index, bonds: [], bondOrder: [],
      x: model.places[3 * index] / 100, y: model.places[3 * index + 1] / 100, z: model.places[3 * index + 2] / 100}));
    for (let k = 0; k < model.bonds.length; k += 3) {
      const [begin, end, order] = model.bonds.slice(k, k + 3);
      found[begin].bonds.push(end); found[begin].bondOrder.push(order);
      found[end].bonds.push(begin); found[end].bondOrder.push(order);
    }
    return found;
  }

  function toggle(label, pressed, change) {
    const button = make("button", "mol-toggle", label);
    button.type = "button";
    button.setAttribute("aria-pressed", String(pressed));
    button.addEventListener("click", () => {
      const now = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(now));
      change(now);
    });
    return button;
  }

  /* The 3D view of a gallery: one WebGL context, made once, for all its molecules. It turns only where it is seen. */
  function makeSpace() {
    const frame = make("div", "mol-space"), box = make("div", "mol-canvas"), bar = make("div", "mol-bar");
    frame.append(box, bar);
    let viewer = null, models = [], shown = [], seen = false, last = 0, moving = 0;

    function tick(now) {
      moving = 0;
      if (!spinning || !seen || !frame.isConnected) { last = 0; return; }
      if (last) viewer.rotate(Math.min(now - last, 100) * DEGREES_PER_SECOND / 1000, "y");
      last = now;
      moving = requestAnimationFrame(tick);
    }

    function turn() {
      const atoms = shown.reduce((sum, model) => sum + model.elements.length, 0);
      if (viewer && !moving && atoms <= LARGEST_TURNING) moving = requestAnimationFrame(tick);
    }

    function draw() {
      viewer.removeAllModels();
      for (const content of shown) {
        const ghost = models.length > 1 && content === models[0];
        const model = viewer.addModel();
        model.addAtoms(atoms(content));
        const stick = {radius: ghost ? 0.09 : 0.13}, sphere = {scale: ghost ? 0.17 : 0.24};
        if (ghost) { stick.color = sphere.color = GHOST; stick.opacity = sphere.opacity = 0.8; }
        else stick.colorscheme = sphere.colorscheme = "Jmol";
        model.setStyle({}, {stick, sphere});
        if (!hydrogens) model.setStyle({index: content.hydrogens}, {});
      }
      viewer.zoomTo();
      viewer.zoom(0.92);
      viewer.render();
      frame.dataset.drawn = "yes";
      turn();
    }

    function begin() {
      if (!frame.isConnected || !box.clientWidth) return;
      try {
        if (!viewer) viewer = $3Dmol.createViewer(box, {backgroundColor: surface(), antialias: true});
        viewer.resize();
        draw();
      } catch (error) {
        box.replaceChildren(make("p", "mol-none", "This browser shows no 3D graphics (WebGL)."));
      }
    }

    DARK.addEventListener("change", () => { if (viewer) viewer.setBackgroundColor(surface()); });
    new IntersectionObserver((entries) => {
      seen = entries[entries.length - 1].isIntersecting;
      if (seen && !viewer) begin();
      if (seen) turn();
    }).observe(frame);

    return {frame, show(given) {
      models = shown = given;
      bar.replaceChildren(toggle("turn", spinning, (on) => { spinning = on; last = 0; turn(); }));
      if (models.some((model) => model.hydrogens.length))
        bar.append(toggle("hydrogens", hydrogens, (on) => { hydrogens = on; if (viewer) draw(); }));
      if (models.length > 1)
        bar.append(toggle("input", true, (on) => { shown = on ? models : models.slice(1); if (viewer) draw(); }));
      bar.append(make("span", "mol-hint", "drag to turn"));
      if (viewer) requestAnimationFrame(begin);
    }};
  }

  uniteReport.register("molecules", {
    thumbnail(item, host) {
      host.append(drawing(item.content.second && item.content.second.length ? item.content.second
        : item.content.drawing));
    },
    detail(item, host) {
      const {drawing: first, second, models} = item.content;
      if (!spaces.has(host)) spaces.set(host, makeSpace());
      const space = spaces.get(host);
      host.append(models.length ? space.frame : make("p", "mol-none", "There are no coordinates to show in 3D."));
      if (models.length) space.show(models);
      if (second) {
        const pair = make("div", "mol-pair");
        for (const [title, paths] of [["input", first], ["reconstruction", second]]) {
          const figure = make("figure", "mol-figure");
          figure.append(drawing(paths), make("figcaption", "", title));
          pair.append(figure);
        }
        host.append(pair);
      } else {
        const figure = make("figure", "mol-figure mol-single");
        figure.append(drawing(first));
        host.append(figure);
      }
    },
  });
})();
