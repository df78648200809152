function Get-Thing {
    $a = $true ? 1 : 2
    $b = $null ?? 'x'
    ${c}?.Length
