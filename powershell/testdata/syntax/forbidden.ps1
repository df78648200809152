Get-Item -Path 'a' && Get-Item -Path 'b'
Get-Item -Path 'a' || Get-Item -Path 'b'
Get-Process | ForEach-Object -Parallel { $_ }
iex 'Get-Date'
Invoke-Expression -Command 'Get-Date'
Write-Host -Object 'hello'
Write-Verbose -Message "token $ApiToken"
[string]::Format('{0}{1}' -f 'a', 'b')
& $command
