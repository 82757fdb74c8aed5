// A click on a point of the map or on a file's name plays its excerpt.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#clip-"]');
  if (!link) return;
  const place = document.getElementById(link.getAttribute("href").slice(1));
  document.querySelectorAll("audio").forEach((sound) => sound.pause());
  const sound = place.querySelector("audio");
  sound.currentTime = 0;
  sound.play();
  if (link.closest("svg")) {
    event.preventDefault();  // stay at the map
    document.getElementById("playing").textContent = place.querySelector("figcaption").textContent;
  }
});
