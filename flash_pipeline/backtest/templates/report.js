"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const sync = uPlot.sync("time");
  const plots = [];
  const write = {
    "%": (v) => (100 * v).toFixed(2) + " %",
    "x": (v) => v.toPrecision(4) + "x",
    "": (v) => String(+v.toPrecision(4)),
  };
  const axis = { stroke: "#57606a", grid: { stroke: "#e4e7ec", width: 1 }, ticks: { stroke: "#c5cad1", width: 1 }, font: "12px system-ui, sans-serif" };

  function options(chart, host, log) {
    const histogram = chart.kind === "bars";
    const tell = write[chart.unit];
    const short = (v) => (chart.unit === "%" ? +(100 * v).toPrecision(4) + " %" : +v.toPrecision(4) + (chart.unit === "x" ? "x" : ""));
    return {
      width: host.clientWidth,
      height: chart.key === "equity" ? 340 : 230,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: histogram ? { drag: { x: false, y: false } } : { sync: { key: sync.key }, drag: { x: true, y: false } },
      scales: {
        x: { time: !histogram },
        y: log ? { distr: 3 } : chart.kind === "bars" ? { range: (u, low, high) => [0, high * 1.05 || 1] } : {},
      },
      axes: [
        histogram ? { ...axis, values: (u, vs) => vs.map((v) => +(100 * v).toPrecision(4) + " %") } : axis,
        { ...axis, size: 64, values: (u, vs) => vs.map((v) => (v === null ? "" : histogram ? v.toLocaleString("en") : short(v))) },
      ],
      series: [
        { label: histogram ? "return" : "UTC", value: histogram ? (u, v) => (v === null ? "–" : write["%"](v)) : "{YYYY}-{MM}-{DD} {HH}:{mm}" },
        ...chart.lines.map((line, i) => ({
          label: line.label,
          stroke: line.colour,
          width: i === 0 && !histogram ? 2 : 1.3,
          fill: histogram ? line.colour : chart.kind === "area" && i === 0 ? line.colour + "22" : undefined,
          paths: histogram ? uPlot.paths.bars({ size: [1, 100], gap: 1 }) : undefined,
          points: { show: false },
          spanGaps: false,
          value: (u, v) => (v === null ? "–" : histogram ? v.toLocaleString("en") : tell(v)),
        })),
      ],
    };
  }

  function draw(chart) {
    const host = document.getElementById("chart-" + chart.key);
    const data = [chart.x, ...chart.lines.map((line) => line.y)];
    const state = { log: false, plot: null };
    const redraw = () => {
      if (state.plot) {
        sync.unsub(state.plot);
        state.plot.destroy();
      }
      state.plot = new uPlot(options(chart, host, state.log), data, host);
    };
    const toggle = document.getElementById("log-" + chart.key);
    if (toggle) {
      const positive = chart.lines.every((line) => line.y.every((v) => v === null || v > 0));
      toggle.disabled = !positive;
      toggle.addEventListener("change", () => {
        state.log = toggle.checked;
        redraw();
      });
    }
    redraw();
    plots.push({ host, state, redraw });
  }

  charts.forEach(draw);
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => plots.forEach(({ host, state }) => state.plot.setSize({ width: host.clientWidth, height: state.plot.height })), 100);
  });
  document.getElementById("reset").addEventListener("click", () => plots.forEach(({ redraw }) => redraw()));
})();
