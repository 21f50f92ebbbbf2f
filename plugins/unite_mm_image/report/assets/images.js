/* Images in the report: a grid of samples, inputs and reconstructions under a slider. */
(() => {
  "use strict";
  const {make} = uniteReport;
  function picture(source, text) {
    const image = make("img", "img-picture");
    if (!source.startsWith("data:image/")) return image;
    image.src = source;
    image.alt = text;
    image.decoding = "async";
    image.addEventListener("load", () => image.classList.toggle("img-small", image.naturalWidth < 160));
    return image;
  }
  function compared(before, after) {
    const frame = make("div", "img-compared"), over = make("div", "img-over"), line = make("i", "img-line");
    over.append(picture(before, "input"));
    frame.append(picture(after, "reconstruction"), over, line, make("span", "img-left", "input"),
      make("span", "img-right", "reconstruction"));
    const slider = make("input", "img-slider");
    Object.assign(slider, {type: "range", min: 0, max: 100, value: 50});
    slider.setAttribute("aria-label", "how much of the input is shown");
    const move = () => {
      over.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
      line.style.left = `${slider.value}%`;
    };
    slider.addEventListener("input", move);
    move();
    frame.append(slider);
    return frame;
  }
  uniteReport.register("images", {
    thumbnail(item, host) {
      const {images} = item.content;
      const pair = make("span", images.length > 1 ? "img-pair" : "");
      for (const source of images.slice(0, 2)) pair.append(picture(source, ""));
      host.append(pair);
    },
    detail(item, host) {
      const {images} = item.content;
      if (images.length < 2) {
        const frame = make("div", "img-single");
        frame.append(picture(images[0], item.title));
        host.append(frame);
        return;
      }
      host.append(compared(images[0], images[1]));
      const row = make("div", "img-row");
      for (const [place, title] of ["input", "reconstruction", "difference × 4"].entries()) {
        const figure = make("figure", "img-figure");
        figure.append(picture(images[place], title), make("figcaption", "", title));
        row.append(figure);
      }
      host.append(row);
    },
  });
})();
