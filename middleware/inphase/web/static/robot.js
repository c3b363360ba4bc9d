// The robot in 3-D: geoms of its MJCF model, moved by the poses that come with the frames.

import * as three from "./vendor/three.min.js";
import { show } from "./format.js";

const SHAPES = {
  plane: ([x, y]) => new three.PlaneGeometry(2 * (x || 5), 2 * (y || 5)),
  sphere: ([radius]) => new three.SphereGeometry(radius, 24, 16),
  ellipsoid: ([x, y, z]) => new three.SphereGeometry(1, 24, 16).scale(x, y, z),
  capsule: ([radius, half]) => new three.CapsuleGeometry(radius, 2 * half, 8, 20).rotateX(Math.PI / 2),
  cylinder: ([radius, half]) => new three.CylinderGeometry(radius, radius, 2 * half, 28).rotateX(Math.PI / 2),
  box: ([x, y, z]) => new three.BoxGeometry(2 * x, 2 * y, 2 * z),
};

const OLD = new Set(["MISSING", "FROZEN", "INVALID", "OFFLINE", "RECOVERING"]);

export class Robot {
  // buffer: what /api/model gives. measuring: the numbers of the sensors that move it
  constructor(buffer, measuring) {
    this.measuring = measuring;
    const length = new DataView(buffer).getUint32(0, true);
    this.model = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    this.arrays = { buffer, at: 4 + length };
    this.into = document.getElementById("robot-view");
    show("panel-robot");
    this.renderer = new three.WebGLRenderer({ antialias: true, alpha: true, powerPreference: "low-power" });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.into.replaceChildren(this.renderer.domElement);
    this.scene = new three.Scene();
    this.bodies = Array.from({ length: this.model.bodies }, () => new three.Group());
    this.scene.add(...this.bodies, new three.HemisphereLight(0xffffff, 0x667080, 1.6));
    const sun = new three.DirectionalLight(0xffffff, 1.8);
    sun.position.set(1.5, -2, 4);
    this.scene.add(sun);
    this.geometries = new Map();
    for (const geom of this.model.geoms) this.add(geom);
    this.makeCamera();
    this.isSeen = true;
    this.isNew = true;
    new ResizeObserver(() => this.resize()).observe(this.into);
    new IntersectionObserver(([entry]) => (this.isSeen = entry.isIntersecting)).observe(this.into);
    this.renderer.setAnimationLoop(() => this.draw());
  }

  add(geom) {
    const geometry = geom.shape === "mesh" ? this.mesh(geom.mesh) : SHAPES[geom.shape]?.(geom.size);
    if (!geometry) return;
    const [red, green, blue, opacity] = geom.colour;
    const material = new three.MeshStandardMaterial({ roughness: 0.65, metalness: 0.05, opacity, transparent: opacity < 1 });
    if (geom.shape === "plane") material.side = three.DoubleSide;
    material.color.setRGB(red, green, blue, "srgb");
    const mesh = new three.Mesh(geometry, material);
    mesh.position.set(...geom.position);
    mesh.quaternion.copy(quaternion(geom.quaternion));
    (geom.body === null ? this.scene : this.bodies[geom.body]).add(mesh);
  }

  mesh(name) {
    if (!this.geometries.has(name)) {
      const { at, vertices, faces } = this.model.meshes[name];
      const { buffer, at: start } = this.arrays;
      const places = new Float32Array(buffer, start + at, 3 * vertices);
      const indices = new Uint32Array(buffer, start + at + places.byteLength, 3 * faces);
      const geometry = new three.BufferGeometry();
      geometry.setAttribute("position", new three.BufferAttribute(places, 3));
      geometry.setIndex(new three.BufferAttribute(indices, 1));
      const flat = geometry.toNonIndexed();  // edges stay edges
      flat.computeVertexNormals();
      this.geometries.set(name, flat);
    }
    return this.geometries.get(name);
  }

  makeCamera() {
    const { centre, radius } = this.model;
    const camera = new three.PerspectiveCamera(40, 4 / 3, radius / 100, radius * 200);
    camera.up.set(0, 0, 1);
    camera.position.set(centre[0] + 2.3 * radius, centre[1] - 2.2 * radius, centre[2] + 1.4 * radius);
    this.camera = camera;
    this.controls = new three.OrbitControls(camera, this.renderer.domElement);
    this.controls.target.set(...centre);
    this.controls.addEventListener("change", () => (this.isNew = true));
    this.controls.update();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.into;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.isNew = true;
  }

  frame({ poses, sensors }) {
    this.into.classList.toggle("old", this.measuring.some((index) => OLD.has(sensors[index].status)));
    if (!poses) return;
    poses.forEach(([x, y, z, ...turned], index) => {
      this.bodies[index].position.set(x, y, z);
      this.bodies[index].quaternion.copy(quaternion(turned));
    });
    this.isNew = true;
  }

  draw() {
    if (!this.isNew || !this.isSeen) return;
    this.isNew = false;
    this.renderer.render(this.scene, this.camera);
  }

  close() {
    this.renderer.setAnimationLoop(null);
    this.renderer.dispose();
    this.into.replaceChildren();
  }
}

// MuJoCo writes w first
function quaternion([w, x, y, z]) {
  return new three.Quaternion(x, y, z, w);
}
