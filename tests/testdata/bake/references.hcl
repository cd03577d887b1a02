target "webapp" {
  dockerfile = "webapp.Dockerfile"
  tags = ["docker.io/username/webapp"]
  args = { v = target.base.args.v, w = upper(target.base.target), l = length(target.base.tags) }
}
target "base" { 
 args = { v = "q" } 
 target = "st"
 tags = ["one", "two"]
}
target "cy" { args = { a = "${target.webapp.args.w}" } }
