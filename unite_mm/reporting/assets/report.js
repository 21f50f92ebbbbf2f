/* The report's own script: galleries, charts, and what opens and closes. Texts of data go in by textContent alone. */
const uniteReport = (() => {
  "use strict";
  const renderers = {};
  const PAGE = 60;
  const data = (name) => JSON.parse(document.getElementById(name).textContent);
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const runColour = (run) => colour(run < 0 ? "--data" : `--run${run % 6}`);
  const count = (number) => number.toLocaleString("en");

  const plain = {
    thumbnail() {},
    detail() {},
  };

  /* A gallery: filters, the selected item large, all items of the filter as cards that are made when they are seen. */
  function gallery(root) {
    const content = data(root.dataset.gallery);
    const renderer = renderers[content.renderer] || plain;
    const alerts = new Set(content.tags.filter((tag) => tag.alert).map((tag) => tag.name));
    let chosen = content.items, current = -1, leave = null;

    const filters = make("div", "filters");
    const show = make("div", "show"), stage = make("div", "stage"), cards = make("div", "cards");
    const view = make("div", "view"), facts = make("div", "facts");
    stage.append(view, facts);
    show.append(stage, cards);
    root.append(filters, show);
    for (const note of content.notes) root.append(make("p", "gallerynotes", note));

    function filter(label, total, tag, alert) {
      const matching = tag === null ? content.items : content.items.filter((item) => item.tags.includes(tag));
      const chip = make("button", alert ? "chip alert" : "chip", label);
      chip.type = "button";
      chip.dataset.tag = tag === null ? "" : tag;
      chip.append(make("small", "", total === null ? count(matching.length) : count(total)));
      chip.setAttribute("aria-pressed", String(tag === null));
      chip.addEventListener("click", () => {
        for (const other of filters.children) other.setAttribute("aria-pressed", String(other === chip));
        chosen = matching;
        fill();
      });
      filters.append(chip);
    }

    function card(item, place) {
      const button = make("button", item.tags.some((tag) => alerts.has(tag)) ? "card alert" : "card");
      button.type = "button";
      button.title = item.title;
      const thumb = make("span", "thumb");
      button.append(thumb, make("span", "title", item.title));
      renderer.thumbnail(item, thumb);
      button.addEventListener("click", () => select(place, true));
      button.setAttribute("aria-current", String(place === current));
      return button;
    }

    const end = make("span", "end");
    const more = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) grow(cards.querySelectorAll(".card").length + PAGE);
    }, {root: cards, rootMargin: "400px"});

    function grow(to) {
      const from = cards.querySelectorAll(".card").length;
      chosen.slice(from, to).forEach((item, k) => cards.insertBefore(card(item, from + k), end));
      if (to >= chosen.length) more.unobserve(end);
    }

    function fill() {
      cards.replaceChildren(end);
      current = -1;
      if (!chosen.length) {
        cards.prepend(make("p", "empty", "There are none."));
        if (leave) leave();
        leave = null;
        view.replaceChildren();
        facts.replaceChildren();
        return;
      }
      grow(PAGE);
      more.observe(end);
      select(0, false);
    }

    function select(place, asked) {
      if (place < 0 || place >= chosen.length || place === current) return;
      const item = chosen[place];
      current = place;
      if (leave) leave();
      view.replaceChildren();
      leave = renderer.detail(item, view) || null;
      facts.replaceChildren(make("h3", "", item.title));
      const list = make("dl");
      for (const fact of item.facts) list.append(make("dt", "", fact.label), make("dd", "", fact.text));
      facts.append(list);
      const steps = make("div", "steps");
      for (const [label, step] of [["← previous", -1], ["next →", 1]]) {
        const button = make("button", "step", label);
        button.type = "button";
        button.disabled = !(place + step in chosen);
        button.addEventListener("click", () => select(place + step, true));
        steps.append(button);
      }
      steps.append(make("span", "", `${count(place + 1)} of ${count(chosen.length)}`));
      facts.append(steps);
      if (asked && place >= cards.querySelectorAll(".card").length) grow(place + PAGE);
      [...cards.querySelectorAll(".card")].forEach((one, k) => one.setAttribute("aria-current", String(k === place)));
      if (asked) cards.querySelectorAll(".card")[place].scrollIntoView({block: "nearest"});
    }

    show.addEventListener("keydown", (event) => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (!step || event.target.matches("input")) return;
      event.preventDefault();
      select(current + step, true);
    });
    const counted = content.tags.every((tag) => tag.total !== null);  // else chips count what is shown
    filter(counted ? "all" : "shown", counted ? content.total : null, null, false);
    for (const tag of content.tags) filter(tag.title, tag.total, tag.name, tag.alert);
    fill();
    root.dataset.ready = "yes";
  }

  /* Charts by uPlot. */
  const number = (value) => value === null || value === undefined ? "–"
    : Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2)
      : String(Number(value.toPrecision(4)));

  function legend(figure, series, unit) {
    const bar = make("div", "legend");
    const entries = series.map((one) => {
      const entry = make("span"), bullet = make("i", one.run < 0 ? "bullet data" : `bullet run${one.run % 6}`);
      const value = make("span", "", one.label);
      entry.append(bullet, value);
      bar.append(entry);
      return value;
    });
    figure.append(bar);
    return (values) => entries.forEach((entry, k) => {
      entry.textContent = values ? `${series[k].label} ${number(values[k])}${unit}` : series[k].label;
    });
  }

  function frame(width) {
    const axis = {stroke: () => colour("--muted"), grid: {stroke: () => colour("--line"), width: 1},
      ticks: {stroke: () => colour("--line"), width: 1, size: 4}, font: "12px system-ui, sans-serif", size: 46, gap: 4};
    return {axis, options: {width, height: 220, legend: {show: false}, padding: [8, 8, 0, 0],
      cursor: {y: false, points: {show: false}, drag: {x: false, y: false}}}};
  }

  function lines(figure, host, chart) {
    const {axis, options} = frame(host.clientWidth);
    const table = uPlot.join(chart.series.map((one) => [one.x, one.y]));
    const told = legend(figure, chart.series, "");
    const near = (plot, k, place) => {
      for (let step = 0; step < table[0].length; step++)
        for (const at of [place - step, place + step]) if (table[k + 1][at] != null) return table[k + 1][at];
      return null;
    };
    return new uPlot({...options,
      scales: {x: {time: false}, y: {distr: chart.log ? 3 : 1}},
      axes: [{...axis, size: 34, values: (plot, ticks) => ticks.map((tick) => tick >= 1000 ? `${tick / 1000}k` : tick)},
        {...axis, values: (plot, ticks) => ticks.map((tick) => tick === null ? "" : number(tick))}],
      series: [{}, ...chart.series.map((one) => one.kind === "validation"
        ? {stroke: () => runColour(one.run), width: 2, spanGaps: true,
          points: {show: true, size: 6, fill: () => colour("--surface"), stroke: () => runColour(one.run), width: 2}}
        : {stroke: () => runColour(one.run), width: 1.25, alpha: 0.55, spanGaps: true, points: {show: false}})],
      hooks: {setCursor: [(plot) => {
        const at = plot.cursor.idx;
        told(at === null || at === undefined ? null : chart.series.map((_, k) => near(plot, k, at)));
      }]},
    }, table, host);
  }

  function bars(figure, host, chart) {
    const {axis, options} = frame(host.clientWidth);
    const series = chart.series, each = series.length, wide = 0.8 / each;
    const xs = [], ys = series.map(() => []);
    chart.labels.forEach((_, bin) => series.forEach((one, k) => {
      xs.push(bin + (k - (each - 1) / 2) * wide);
      ys.forEach((column, other) => column.push(other === k ? one.y[bin] : null));
    }));
    const told = legend(figure, series, " %");
    const bin = (x) => Math.min(chart.labels.length - 1, Math.max(0, Math.round(x)));
    const room = Math.max(1, Math.ceil(chart.labels.length * 44 / host.clientWidth));
    return new uPlot({...options,
      scales: {x: {time: false, range: [-0.6, chart.labels.length - 0.4]}, y: {range: (plot, low, high) => [0, high * 1.06 || 1]}},
      axes: [{...axis, size: 34, grid: {show: false}, splits: () => chart.labels.map((_, k) => k).filter((k) => k % room === 0),
        values: (plot, ticks) => ticks.map((tick) => chart.labels[tick])},
      {...axis, values: (plot, ticks) => ticks.map((tick) => `${tick} %`)}],
      series: [{}, ...series.map((one) => ({fill: () => runColour(one.run), stroke: () => runColour(one.run), width: 0,
        points: {show: false}, paths: uPlot.paths.bars({size: [0.94, 46], radius: 0.12})}))],
      hooks: {setCursor: [(plot) => {
        const inside = plot.cursor.left >= 0;
        const at = inside ? bin(plot.posToVal(plot.cursor.left, "x")) : 0;
        told(inside ? series.map((one) => one.y[at]) : null);
      }]},
    }, [xs, ...ys], host);
  }

  function chart(figure) {
    const [group, place] = figure.dataset.chart.split(/\/(?=\d+$)/);
    const content = data("charts")[group][Number(place)];
    const host = make("div", "plot");
    figure.append(host);
    const plot = (content.kind === "bars" ? bars : lines)(figure, host, content);
    new ResizeObserver(() => {
      if (host.clientWidth && host.clientWidth !== plot.width) plot.setSize({width: host.clientWidth, height: 220});
    }).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw());
    figure.dataset.ready = "yes";
  }

  function whenSeen(elements, act) {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        act(entry.target);
      }
    }, {rootMargin: "600px"});
    for (const element of elements) seen.observe(element);
  }

  function start() {
    whenSeen(document.querySelectorAll("[data-gallery]"), gallery);
    whenSeen(document.querySelectorAll("[data-chart]"), chart);
    for (const tab of document.querySelectorAll("[data-tab]")) tab.addEventListener("click", () => {
      for (const other of tab.parentNode.children) {
        other.setAttribute("aria-selected", String(other === tab));
        document.querySelector(`[data-gallery="${other.dataset.tab}"]`).hidden = other !== tab;
      }
    });
    for (const button of document.querySelectorAll("[data-open]")) button.addEventListener("click", () => {
      const open = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(open));
      button.textContent = open ? "Hide all definitions" : "Show all definitions";
      for (const one of document.getElementById(button.dataset.open).querySelectorAll(".scores details")) one.open = open;
    });
    const links = [...document.querySelectorAll("nav a")];
    const here = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting)
        for (const link of links) link.classList.toggle("here", link.hash === `#${entry.target.id}`);
    }, {rootMargin: "-20% 0px -70% 0px"});
    for (const section of document.querySelectorAll("section[id]")) here.observe(section);
  }

  document.addEventListener("DOMContentLoaded", start);
  return {make, register(name, renderer) { renderers[name] = renderer; }};
})();
