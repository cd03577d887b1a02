X = "global"
variable "Y" { default = "${X}-y" }
target "default" {
  args = { x = X, y = Y, j = jsonencode({a = [1, "b<"]}), s = "%{ if X == "global" }yes%{ else }no%{ endif }", f = join(",", formatted...) , n = 1.5, t = true }
  dockerfile-inline = <<-EOT
    FROM ${X}
      RUN echo "$${HOME}" \
        %%{ raw
    %{ for a in ["p", "q"] ~}
    RUN ${a}
    %{ endfor ~}
  EOT
  labels = { for k, v in { a = 1, b = 2 } : upper(k) => v * 2 if v > 1 }
  tags = concat(["a:1"], [for i in range(3) : "t:${i}"])
}
formatted = [["u", "v"]]
