variable "TAG" { default = "latest" }
variable "DEBUG" { default = false }
variable "N" { default = 3 }
function "tag" {
  params = [name, suffix]
  result = ["registry/${name}:${TAG}${suffix}"]
}
group "default" { targets = ["app", "more"] }
group "more" { targets = ["db", "app"] }
target "base" {
  args = { A = 1, B = "${TAG}-${N + 1}", D = DEBUG, E = null }
  labels = { "org.x" = "<a&b>" }
  platforms = ["linux/amd64", "linux/arm64"]
}
target "app" {
  inherits = ["base"]
  context = "./src/../app/"
  dockerfile = "app.Dockerfile"
  tags = tag("app", equal(DEBUG, true) ? "-debug" : "")
  args = { A = "two" }
  contexts = { base = "target:common", alp = "docker-image://alpine", none = "" }
  no-cache-filter = ["x"]
  output = ["type=registry"]
}
target "db" {
  dockerfile-inline = <<EOT
FROM scratch
COPY . "/x"
EOT
  target = "final"
  pull = true
  no-cache = false
  tags = [for t in ["a", "b"] : "db:${t}-${target.app.args.A}"]
  
  platforms = []
}
target "common" { output = ["type=docker"] }
