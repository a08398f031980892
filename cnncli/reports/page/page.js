"use strict";
(() => {
  const twins = JSON.parse(document.getElementById("twins").textContent); // light colour -> dark colour
  const dark = matchMedia("screen and (prefers-color-scheme: dark)");
  const root = document.documentElement;

  // ---- figures ----

  const NARROW = 480; // pixels in which there is no room for a colour bar beside its matrix

  const plots = [...document.querySelectorAll(".plot")].map((place) => {
    const holder = place.querySelector("script");
    const figure = JSON.parse(holder.textContent);
    holder.remove();
    const { names, counts, totals } = figure.layout.meta;
    if (counts) {
      figure.data[0].hovertext = counts.map((row, i) => row.map((n, j) => {
        const share = totals[i] ? `, ${(100 * n / totals[i]).toFixed(1)}% of ${names[i]}` : "";
        return `true: ${names[i]}<br>predicted: ${names[j]}<br>${n.toLocaleString("en")} image${n === 1 ? "" : "s"}${share}`;
      }));
    }
    return { place, figure };
  });

  // The figure with the colours of a dark page, where that is asked for. Only what stands under a word with "color" is one.
  const recoloured = (value, isColour) => {
    if (typeof value === "string") return isColour ? twins[value] ?? value : value;
    if (Array.isArray(value)) return isColour ? value.map((item) => recoloured(item, true)) : value.map((item) => recoloured(item, false));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, recoloured(item, key.includes("color"))]));
  };

  // plotly stands in the page as text, so that the page is there before the second that plotly takes to start.
  const startPlotly = () => {
    const text = document.getElementById("plotly");
    if (text === null) return;
    const script = document.createElement("script");
    script.textContent = text.textContent;
    text.remove();
    document.head.append(script);
  };

  const draw = ({ place, figure }, printing) => {
    const width = place.clientWidth;
    const { aspect, least, most, buttons } = figure.layout.meta;
    const height = Math.round(Math.min(Math.max(width * aspect, least), most));
    const { data: traces, layout } = dark.matches && !printing ? recoloured(figure, false) : figure;
    const data = width < NARROW ? traces.map((trace) => trace.type === "heatmap" ? { ...trace, showscale: false } : trace) : traces;
    const config = { displaylogo: false, responsive: false, displayModeBar: buttons, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
    // A copy of the layout: plotly writes into what it is given.
    Plotly.react(place, data, structuredClone({ ...layout, width, height }), config);
  };

  // One after the other, with a breath between them, in which the page answers. A later call takes over from an earlier one.
  let call = 0;
  let drawnAt = 0;
  const redraw = async () => {
    const own = ++call;
    drawnAt = root.clientWidth;
    startPlotly();
    for (const plot of plots) {
      await new Promise((go) => setTimeout(go));
      if (own !== call) return;
      draw(plot, false);
    }
    root.dataset.drawn = "yes";
  };
  addEventListener("load", () => requestAnimationFrame(() => setTimeout(redraw)));
  let waiting = 0;
  addEventListener("resize", () => {
    if (root.clientWidth === drawnAt || call === 0 || root.classList.contains("printing")) return;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redraw);
  });
  dark.addEventListener("change", () => { if (call > 0 && !root.classList.contains("printing")) redraw(); });

  // ---- on paper: light, as wide as the page, nothing folded ----

  let folded = [];
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const details of folded) details.open = true;
    startPlotly();
    call += 1;
    for (const plot of plots) draw(plot, true);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    for (const details of folded) details.open = false;
    redraw();
  });

  // ---- tables that sort ----

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  for (const button of document.querySelectorAll(".sortable th button")) {
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const body = heading.closest("table").tBodies[0];
      const column = heading.cellIndex;
      const numbers = heading.classList.contains("number");
      const before = heading.getAttribute("aria-sort");
      const rising = before === null ? !numbers : before === "descending"; // numbers: the largest first
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const sign = rising ? 1 : -1;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        return sign * (numbers ? x - y : x.localeCompare(y, "en", { numeric: true }));
      });
      body.append(...rows);
    });
  }
})();
