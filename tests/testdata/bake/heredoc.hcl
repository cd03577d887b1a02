target "default" {
  dockerfile-inline = <<-EOT
    %{ if true ~}
      a
    %{ endif ~}
    b

      
    c  
      %{~ for x in [1, 2] }
    ${x}
    %{~ endfor ~}

    d
  EOT
  labels = { a = <<EOT
 x
   ${~ 1 ~}
  y
EOT
}
}
