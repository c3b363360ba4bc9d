// The newest image of each camera.

import { element, show } from "./format.js";

export class Cameras {
  constructor(description) {
    this.images = new Map();
    const figures = [];
    description.sensors.forEach((sensor, index) => {
      if (!sensor.image) return;
      const image = element("img");
      image.alt = `camera ${sensor.name}`;
      this.images.set(index, image);
      figures.push(element("figure", image, element("figcaption", sensor.name)));
    });
    document.getElementById("cameras").replaceChildren(...figures);
    show("panel-cameras", figures.length > 0);
  }

  // a byte with the sensor's number, then a JPEG
  take(message) {
    const image = this.images.get(new Uint8Array(message, 0, 1)[0]);
    if (!image || document.hidden) return;
    const url = URL.createObjectURL(new Blob([new Uint8Array(message, 1)], { type: "image/jpeg" }));
    image.onload = image.onerror = () => URL.revokeObjectURL(url);
    image.src = url;
  }
}
