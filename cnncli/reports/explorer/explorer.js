"use strict";
(() => {
  const holder = document.getElementById("points");
  const points = JSON.parse(holder.textContent);
  holder.remove();
  const count = points.x.length;
  const root = document.documentElement;
  const place = document.getElementById("plot");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const shown = points.classes.map(() => true);
  const lower = points.names.map((name, i) => `${name}\n${points.classes[points.label[i]]}`.toLowerCase());
  let words = "";

  // Points in an order of their own, the same every time, so that no class lies on top of all others.
  const order = Array.from({ length: count }, (_, i) => i);
  let state = 1;
  for (let i = count - 1; i > 0; i -= 1) {
    state = (state * 48271) % 2147483647;
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }

  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const colour = (label) => (dark.matches ? points.night : points.colours)[label];
  const size = Math.min(Math.max(260 / Math.sqrt(count), 3.5), 9);

  const traces = () => {
    const rows = order.filter((i) => shown[points.label[i]]);
    const found = words === "" ? [] : rows.filter((i) => lower[i].includes(words));
    const trace = (own, marker) => ({
      type: "scattergl", mode: "markers", hoverinfo: "none", showlegend: false, customdata: own,
      x: own.map((i) => points.x[i]), y: own.map((i) => points.y[i]),
      marker: { color: own.map((i) => colour(points.label[i])), ...marker },
    });
    const line = { width: 1.5, color: style("--ink") };
    document.getElementById("told").textContent = words === "" ? "" : `${found.length.toLocaleString("en")} image${found.length === 1 ? "" : "s"} found`;
    return [
      trace(rows, { size, opacity: words === "" ? 0.8 : 0.15 }),
      trace(found, { size: Math.max(size + 4, 9), opacity: 1, line }),
    ];
  };

  const layout = () => {
    const axis = (number) => ({
      zeroline: false, showgrid: points.axes.length > 0, showticklabels: points.axes.length > 0, automargin: true,
      gridcolor: style("--line"), title: { text: points.axes[number] ?? "" },
    });
    const clear = "rgba(0,0,0,0)";
    return {
      paper_bgcolor: clear, plot_bgcolor: clear, font: { color: style("--ink") }, margin: { l: 12, r: 12, t: 32, b: 12 },
      hovermode: "closest", hoverdistance: 12, dragmode: "pan", uirevision: "kept", xaxis: axis(0),
      yaxis: points.axes.length > 0 ? axis(1) : { ...axis(1), scaleanchor: "x" },
      modebar: { bgcolor: clear, color: style("--muted"), activecolor: style("--ink") },
    };
  };

  const config = {
    displaylogo: false, responsive: true, scrollZoom: true, displayModeBar: true,
    modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
  };
  const draw = () => Plotly.react(place, traces(), layout(), config);

  // ---- the image under the mouse ----

  const card = document.getElementById("card");
  const canvas = document.getElementById("thumbnail");
  const images = new Map(); // number of a sheet -> its picture, decoded when it is first needed
  let under = -1;
  const paint = (row) => {
    if (points.sheets.length === 0) { canvas.hidden = true; canvas.style.display = "none"; return; }
    const perSheet = points.columns * points.columns;
    const number = Math.floor(row / perSheet);
    const at = row % perSheet;
    let image = images.get(number);
    if (image === undefined) {
      image = new Image();
      image.src = points.sheets[number];
      images.set(number, image);
    }
    canvas.width = canvas.height = points.side;
    delete canvas.dataset.row;
    image.decode().then(() => {
      if (under !== row) return;
      const [x, y] = [at % points.columns * points.side, Math.floor(at / points.columns) * points.side];
      canvas.getContext("2d").drawImage(image, x, y, points.side, points.side, 0, 0, points.side, points.side);
      canvas.dataset.row = String(row);
    });
  };
  const show = ({ points: hovered, event }) => {
    const row = hovered[0].customdata;
    under = row;
    const split = points.splits[points.split[row]];
    document.getElementById("class").textContent = points.classes[points.label[row]] ?? "";
    document.getElementById("name").textContent = split ? `${points.names[row]} (${split})` : points.names[row];
    paint(row);
    card.hidden = false;
    const [wide, tall] = [card.offsetWidth, card.offsetHeight];
    const left = event.clientX + 16 + wide > innerWidth ? event.clientX - 16 - wide : event.clientX + 16;
    card.style.left = `${Math.max(4, Math.min(left, innerWidth - wide - 4))}px`;
    card.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - tall - 4))}px`;
  };

  // ---- classes and search ----

  const list = document.getElementById("classes");
  const totals = points.classes.map(() => 0);
  for (const label of points.label) totals[label] += 1;
  const press = () => {
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(shown[button.dataset.label]));
      button.querySelector(".dot").style.background = colour(Number(button.dataset.label));
    }
    draw();
  };
  points.classes.forEach((name, label) => {
    if (totals[label] === 0) return;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.label = String(label);
    button.title = "click: show or hide; double click: this class alone";
    for (const [kind, text] of [["dot", ""], ["", name], ["number", totals[label].toLocaleString("en")]]) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      button.append(part);
    }
    button.addEventListener("click", () => { shown[label] = !shown[label]; press(); });
    button.addEventListener("dblclick", () => { shown.fill(false); shown[label] = true; press(); });
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
  });
  document.getElementById("all").addEventListener("click", () => { shown.fill(true); press(); });
  document.getElementById("none").addEventListener("click", () => { shown.fill(false); press(); });
  let waiting = 0;
  document.getElementById("search").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { words = event.target.value.trim().toLowerCase(); draw(); }, 120);
  });

  addEventListener("load", () => setTimeout(async () => {
    press();
    place.on("plotly_hover", show);
    place.on("plotly_click", show); // a finger does not hover
    place.on("plotly_unhover", () => { under = -1; card.hidden = true; });
    dark.addEventListener("change", press);
    root.dataset.drawn = "yes";
  }));
})();
